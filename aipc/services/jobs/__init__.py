"""Job queues that outlive their processes, kept in an SQLite file."""
