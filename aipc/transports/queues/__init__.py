"""Queues of the kernel: System V, POSIX, and real-time signals."""
