"""Memory that processes share, one mechanism a file, and what is built on it."""
