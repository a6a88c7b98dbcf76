"""Unix stream sockets (unix(7)): by path, by abstract name, and in connected pairs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio.abc

from aipc._address import Address
from aipc._io.handle import SocketHandle
from aipc.abc import ChannelAttribute
from aipc.wire.framing import MAX_MESSAGE_SIZE, Framing
from aipc.wire.framing import framing as framing_named

from . import unix_address
from .byte_stream import ByteStreamChannel
from .listener import SocketListener


class UnixChannel(ByteStreamChannel):
    """Messages over a connected Unix stream socket."""

    __slots__ = ("_handle",)

    def __init__(self, handle: SocketHandle, framing: Framing) -> None:
        super().__init__(handle, handle, framing)
        self._handle = handle

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.peer_credentials: lambda: self._asked(unix_address.credentials),
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
            anyio.abc.SocketAttribute.raw_socket: lambda: self._asked(lambda sock: sock),
            anyio.abc.SocketAttribute.family: lambda: socket.AF_UNIX,
            anyio.abc.SocketAttribute.local_address: lambda: self._asked(socket.socket.getsockname),
            anyio.abc.SocketAttribute.remote_address: lambda: self._asked(socket.socket.getpeername),
        }

    def _asked(self, question: Callable[[socket.socket], Any]) -> Any:
        try:
            return question(self._handle.socket())
        except OSError as error:
            raise self._handle.explain(error) from error


async def connect(address: Address, *, framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE) -> UnixChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    chosen = framing_named(framing, max_message_size)
    sock = unix_address.new_socket(socket.SOCK_STREAM)
    try:
        await unix_address.connect(address, sock)
        return UnixChannel(SocketHandle(sock, address.url), chosen)
    finally:
        sock.close()  # unless the channel owns it by now


async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    backlog: int = 1024,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
) -> SocketListener:
    """Listen. A stale socket file is taken over; with `exclusive` not even that.

    ObjectExists if a live process owns the path; WrongObject if it is not a socket: neither is ever removed. `mode` is the
    file's, whatever the umask; `unlink` removes it on close if it is still ours. Cancelled: nothing was made.
    """
    chosen = framing_named(framing, max_message_size)

    def wrap(connection: socket.socket) -> UnixChannel:
        return UnixChannel(SocketHandle(connection, address.url), chosen)

    sock = unix_address.new_socket(socket.SOCK_STREAM)
    return await unix_address.listen(address, sock, wrap, backlog=backlog, mode=mode, exclusive=exclusive, unlink=unlink)


def pair() -> tuple[UnixChannel, UnixChannel]:
    """Two connected channels (socketpair(2))."""
    ours, theirs = (
        UnixChannel(SocketHandle(sock, "unix pair"), framing_named("u32"))
        for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    )
    return ours, theirs
