"""POSIX queues and semaphores: names and calls."""
