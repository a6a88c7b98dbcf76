"""Signals: masks, numbers, signalfd(2), and SIGPIPE."""
