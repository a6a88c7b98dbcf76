"""Channels in shared memory."""
