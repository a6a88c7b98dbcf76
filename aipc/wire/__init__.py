"""Sans-I/O: how bytes stand on the wire."""
