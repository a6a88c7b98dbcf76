"""Excludes: one mechanism a file."""
