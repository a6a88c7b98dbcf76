"""asyncio's synchronisation primitives between processes: one a file, each on one System V semaphore set."""
