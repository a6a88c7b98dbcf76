"""Child processes: starting them, the pipes to them, ending them."""
