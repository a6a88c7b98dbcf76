"""Channels and listeners: one mechanism a file."""
