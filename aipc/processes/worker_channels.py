"""The two ends of the channel between a worker and its parent, by kind: the names are those of `aipc.channel_pair`.

Each is made of one end of a socketpair(2), which the worker inherits.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from aipc._io.handle import SocketHandle
from aipc.abc import Channel, ChannelAttribute
from aipc.exceptions import AddressError
from aipc.transports.base import TransportChannel
from aipc.transports.packet import PacketHandle
from aipc.transports.seqpacket_channel import SeqpacketChannel
from aipc.transports.shm_channel import RingChannel, RingHandle
from aipc.transports.unix_channel import UnixChannel
from aipc.wire.framing import MAX_MESSAGE_SIZE, framing
from aipc.wire.ring import DEFAULT

_WORKER, _PARENT = 0, 1  # the directions of a ring
End = Callable[[socket.socket, str], TransportChannel]


def _stream(sock: socket.socket, name: str) -> UnixChannel:
    return UnixChannel(SocketHandle(sock, name), framing("u32"), collects=True)


def _seqpacket(sock: socket.socket, name: str) -> SeqpacketChannel:
    return SeqpacketChannel(PacketHandle(sock, name))


def _ring(sock: socket.socket, name: str) -> RingChannel:
    handle = RingHandle(sock, name, _PARENT, MAX_MESSAGE_SIZE)
    try:
        handle.offer(DEFAULT)
    except BaseException:
        handle.close()
        raise
    return RingChannel(handle, MAX_MESSAGE_SIZE)


def _offered_ring(sock: socket.socket, name: str) -> RingChannel:
    return RingChannel(RingHandle(sock, name, _WORKER, MAX_MESSAGE_SIZE), MAX_MESSAGE_SIZE)


_KINDS: dict[str, tuple[socket.SocketKind, End, End]] = {
    "stream": (socket.SOCK_STREAM, _stream, _stream),
    "seqpacket": (socket.SOCK_SEQPACKET, _seqpacket, _seqpacket),
    "shm": (socket.SOCK_STREAM, _ring, _offered_ring),
}


def sockets(kind: str) -> tuple[socket.socket, socket.socket]:
    """The parent's end and the worker's. AddressError for a kind that there is not."""
    if kind not in _KINDS:
        raise AddressError(f"spawn(channel={kind!r}): must be one of {', '.join(_KINDS)}")
    return socket.socketpair(socket.AF_UNIX, _KINDS[kind][0])


def parents_end(kind: str, sock: socket.socket, name: str) -> TransportChannel:
    """The parent's channel."""
    return _KINDS[kind][1](sock, name)


async def workers_end(kind: str, fd: int) -> Channel:
    """The worker's channel, over the inherited socket."""
    return _KINDS[kind][2](socket.socket(fileno=fd), "the parent")


def hang_up(channel: Channel, how: int = socket.SHUT_RDWR) -> None:
    """shutdown(2): what is on its way to us can still be received."""
    fd: int = channel.extra(ChannelAttribute.descriptor, -1)
    if fd >= 0:
        with socket.socket(fileno=os.dup(fd)) as sock, suppress(OSError):  # the other end may be gone
            sock.shutdown(how)


def end_stream(channel: Channel) -> None:
    """`send_eof`, without waiting for room for what a cancelled `send` left."""
    if not isinstance(channel, RingChannel):
        hang_up(channel, socket.SHUT_WR)
    elif channel.extra(ChannelAttribute.descriptor, -1) >= 0:  # its socket is the doorbell, which must go on
        channel._end_writing()
