"""The only room that waits, and the only one that knows the event loops."""
