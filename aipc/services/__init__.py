"""Services on top of channels: typed messages, calls, jobs, topics."""
