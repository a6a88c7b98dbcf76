"""Unix sockets: streams, datagrams and sequenced packets."""
