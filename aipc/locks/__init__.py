"""Locks and semaphores: one mechanism a file."""
