"""Internet sockets: TCP, TLS and UDP."""
