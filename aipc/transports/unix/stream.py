"""Unix stream sockets (unix(7)): by path, by abstract name, and in connected pairs."""

from __future__ import annotations

import socket

from aipc._address import Address
from aipc._io.handle import SocketHandle
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from ..common_options import MISSING_OR_REFUSED, can_spin, can_wait
from ..listener import SocketListener
from ..nameless import NamelessSocket
from . import address as unix_address
from .stream_channel import UnixChannel


@can_spin
@can_wait(*MISSING_OR_REFUSED)
async def connect(
    address: Address, *, framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE, fds: bool = False
) -> UnixChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied if that fails.

    Waits while the listener's backlog is full. `fds`: collect descriptors from the first message on, even if `receive` takes that
    message. Cancelled: not connected.
    """
    chosen = framing_named(framing, max_message_size)
    sock = unix_address.new_socket(socket.SOCK_STREAM)
    try:
        await unix_address.connect(address, sock)
        return UnixChannel(SocketHandle(sock, address.url), chosen, collects=fds)
    finally:
        sock.close()  # unless the channel owns it


@can_spin
async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    fds: bool = False,
    backlog: int = 1024,
    max_connections: int | None = None,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
) -> SocketListener:
    """Listen. A stale socket file is replaced; with `exclusive` not even that.

    ObjectExists if a live process owns the path, WrongObject if it is not a socket: neither is ever removed. The file has exactly
    `mode`, whatever the umask; `unlink` removes it on close if it is still the listener's. Cancelled: nothing was made.
    """
    chosen = framing_named(framing, max_message_size)

    def wrap(connection: socket.socket) -> UnixChannel:
        return UnixChannel(SocketHandle(connection, address.url), chosen, collects=fds)

    sock = unix_address.new_socket(socket.SOCK_STREAM)
    return await unix_address.listen(
        address, sock, wrap, backlog=backlog, max_connections=max_connections, mode=mode, exclusive=exclusive, unlink=unlink
    )


def pair() -> tuple[UnixChannel, UnixChannel]:
    """Return two connected channels (socketpair(2))."""
    ours, theirs = (
        UnixChannel(NamelessSocket(sock, "unix pair"), framing_named("u32"))
        for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    )
    return ours, theirs
