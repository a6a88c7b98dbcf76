"""Calls over any duplex channel."""
