"""System V system calls: queues, semaphore sets, segments, keys and what /proc tells of them."""
