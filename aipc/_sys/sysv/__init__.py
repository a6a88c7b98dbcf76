"""System V system calls: queues, semaphore sets, segments, keys, and their tables in /proc."""
