"""The commands about this machine's objects and limits."""
