"""One worker: its start, its channel, and what runs in it."""
