"""Moves data: one mechanism a file."""
