"""Child processes: starting one, the pipes to it, ending it."""
