"""Unix sequenced-packet sockets (unix(7)): connections that keep messages apart, in order, with nothing lost."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import anyio

from aipc._address import Address
from aipc._sys import rights
from aipc.abc import Buffer, ChannelAttribute, Message

from . import unix_address
from .inet import set_options
from .listener import SocketListener
from .packet import PacketHandle
from .unix_packet import UnixPacketChannel, ask_credentials


class SeqpacketChannel(UnixPacketChannel):
    """A connected Unix sequenced-packet socket.

    An empty message and the end of the stream are both a recvmsg(2) of 0 bytes. With SO_PASSCRED each message has its
    sender's credentials, and the end has not: where there is no room for them, a message has MSG_CTRUNC.
    """

    __slots__ = ("_output_ended", "_reset")

    def __init__(self, handle: PacketHandle) -> None:
        super().__init__(handle)
        self._output_ended = False
        self._reset = False  # a peer closed with messages of ours unread

    def _put(self, item: Buffer, **meta: object) -> None:
        if self._output_ended:
            raise anyio.ClosedResourceError(f"{self._name}: send_eof was called")
        super()._put(item, **meta)

    def _next_size(self) -> int:
        try:
            return super()._next_size()
        except ConnectionResetError:
            self._reset = True  # told once, and ahead of the peer's last messages: those come first
            return super()._next_size()

    def _take_empty(self) -> bytes:
        data, _, flags, _ = self._sock.recvmsg(1)
        if not data and not flags & socket.MSG_CTRUNC:
            self._end()
        return data

    def _message(self, received: rights.Received) -> Message:
        if not received.data and not received.ancillary:
            self._end()
        return super()._message(received)

    def _end(self) -> NoReturn:
        if self._reset:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        raise anyio.EndOfStream

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            ChannelAttribute.peer_credentials: lambda: self._asked(unix_address.credentials),
        }

    async def send_eof(self) -> None:
        waiting = self._writing({})
        if not self._output_ended:
            waiting.attempt_nowait(self._shut)
            self._output_ended = True

    def _shut(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)


def _channel(sock: socket.socket, name: str) -> SeqpacketChannel:
    return SeqpacketChannel(PacketHandle(sock, name))


async def connect(address: Address, *, send_buffer: int | None = None, receive_buffer: int | None = None) -> SeqpacketChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    sock = _socket(address, send_buffer, receive_buffer)
    try:
        await unix_address.connect(address, sock)
        return _channel(sock, address.url)
    finally:
        sock.close()  # unless the channel owns it by now


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
    """Listen. A stale socket file is taken over; with `exclusive` not even that.

    ObjectExists if a live process owns the path; WrongObject if it is not a socket: neither is ever removed. `mode` is the
    file's, whatever the umask; `unlink` removes it on close if it is still ours. Cancelled: nothing was made.
    """

    def wrap(connection: socket.socket) -> SeqpacketChannel:
        set_options(connection, address.url, send_buffer=send_buffer, receive_buffer=receive_buffer)
        return _channel(connection, address.url)

    sock = _socket(address, send_buffer, receive_buffer)
    return await unix_address.listen(
        address, sock, wrap, backlog=backlog, mode=mode, exclusive=exclusive, unlink=unlink, max_connections=max_connections
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
    """Two connected channels (socketpair(2))."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return _channel(ours, "unix seqpacket pair"), _channel(theirs, "unix seqpacket pair")
