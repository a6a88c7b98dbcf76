"""Children: starting processes, talking to them, ending and reaping them."""
