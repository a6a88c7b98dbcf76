"""Inherited listening sockets: `listen("fd:3")`, passed by systemd (sd_listen_fds(3)) or by another process.

The listener owns the descriptor from then on. The socket's path belongs to the process that bound it, and is never removed.
"""

from __future__ import annotations

import errno
import os
import socket

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.handle import ListenerHandle, SocketHandle
from aipc.exceptions import WrongObject
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from .base import TransportChannel
from .common_options import can_spin
from .listener import SocketListener
from .packet import PacketHandle
from .socket_stream import SocketStreamChannel
from .unix.seqpacket_channel import SeqpacketChannel
from .unix.stream_channel import UnixChannel

_INTERNET = (socket.AF_INET, socket.AF_INET6)


@can_spin
async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    fds: bool = False,
    max_connections: int | None = None,
) -> SocketListener:
    """Listen on a descriptor: a listening Unix stream, Unix sequenced-packet or TCP socket, which several processes may share.

    `framing` and `max_message_size` are for stream sockets, `fds` for Unix stream sockets. ObjectMissing if the descriptor is not
    open, WrongObject if it is not such a socket. Cancelled: nothing happened.
    """
    number = address.path
    if not (number.isascii() and number.isdecimal()) or address.authority:
        raise address.error("needs one listening socket's number, as in fd:3")
    chosen = framing_named(framing, max_message_size)
    sock = _listening(int(number), address.url)

    def wrap(connection: socket.socket) -> TransportChannel:
        if sock.type == socket.SOCK_SEQPACKET:
            return SeqpacketChannel(PacketHandle(connection, address.url))
        if sock.family == socket.AF_UNIX:
            return UnixChannel(SocketHandle(connection, address.url), chosen, collects=fds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handle = SocketHandle(connection, address.url)
        return SocketStreamChannel(handle, chosen)

    return SocketListener(ListenerHandle(sock, address.url), wrap, max_connections=max_connections, shared=True)


def _listening(fd: int, name: str) -> socket.socket:
    try:
        os.fstat(fd)
    except OSError:
        raise os_error(errno.ENOENT, name, f"descriptor {fd} is not open in this process") from None
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise WrongObject(errno.ENOTSOCK, f"{name}: descriptor {fd} is not a socket") from None
    unix = sock.family == socket.AF_UNIX and sock.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    tcp = sock.family in _INTERNET and sock.type == socket.SOCK_STREAM
    if not ((unix or tcp) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
        sock.detach()  # the caller keeps it
        raise WrongObject(errno.EINVAL, f"{name}: descriptor {fd} is not a listening Unix or TCP socket")
    os.set_inheritable(fd, False)
    return sock
