"""Unix sequenced-packet sockets (unix(7)): connections that keep messages apart and in order, and lose none."""

from __future__ import annotations

import socket

from aipc._address import Address

from ..common_options import MISSING_OR_REFUSED, can_spin, can_wait
from ..inet.address import set_options
from ..listener import SocketListener
from ..nameless import Nameless
from ..packet import PacketHandle
from . import address as unix_address
from .packet import ask_credentials
from .seqpacket_channel import SeqpacketChannel


def _channel(sock: socket.socket, name: str) -> SeqpacketChannel:
    return SeqpacketChannel(PacketHandle(sock, name))


@can_spin
@can_wait(*MISSING_OR_REFUSED)
async def connect(address: Address, *, send_buffer: int | None = None, receive_buffer: int | None = None) -> SeqpacketChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied if that fails.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    sock = _socket(address, send_buffer, receive_buffer)
    try:
        await unix_address.connect(address, sock)
        return _channel(sock, address.url)
    finally:
        sock.close()  # unless the channel owns it


@can_spin
async def listen(
    address: Address,
    *,
    backlog: int = 1024,
    max_connections: int | None = None,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> SocketListener:
    """Listen. A stale socket file is replaced; with `exclusive` not even that.

    ObjectExists if a live process owns the path, WrongObject if it is not a socket: neither is ever removed. The file has exactly
    `mode`, whatever the umask; `unlink` removes it on close if it is still the listener's. Cancelled: nothing was made.
    """

    def wrap(connection: socket.socket) -> SeqpacketChannel:
        set_options(connection, address.url, send_buffer=send_buffer, receive_buffer=receive_buffer)
        return _channel(connection, address.url)

    sock = _socket(address, send_buffer, receive_buffer)
    return await unix_address.listen(
        address, sock, wrap, backlog=backlog, max_connections=max_connections, mode=mode, exclusive=exclusive, unlink=unlink
    )


def _socket(address: Address, send_buffer: int | None, receive_buffer: int | None) -> socket.socket:
    sock = unix_address.new_socket(socket.SOCK_SEQPACKET)
    try:
        set_options(sock, address.url, send_buffer=send_buffer, receive_buffer=receive_buffer)
        ask_credentials(sock)  # before the peer can send; accepted sockets inherit it from Linux 6.16 on
    except BaseException:
        sock.close()
        raise
    return sock


def pair() -> tuple[SeqpacketChannel, SeqpacketChannel]:
    """Return two connected channels (socketpair(2))."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    name = "unix seqpacket pair"
    return SeqpacketChannel(_PairHandle(ours, name)), SeqpacketChannel(_PairHandle(theirs, name))


class _PairHandle(Nameless, PacketHandle):
    __slots__ = ()
