"""Plain system calls; nothing here waits."""
