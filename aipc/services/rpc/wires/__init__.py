"""What goes over the wire, without I/O: MessagePack-RPC, JSON-RPC 2.0, and the extension."""
