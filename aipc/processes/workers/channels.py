"""The two ends of the channel between a worker and its parent, by kind. The kinds are named as for `aipc.channel_pair`.

Each end is made of one end of a socketpair(2), which the worker inherits.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from aipc._io.handle import SocketHandle
from aipc.abc import Channel, ChannelAttribute
from aipc.exceptions import AddressError
from aipc.transports.base import TransportChannel
from aipc.transports.packet import PacketHandle
from aipc.transports.shm.channel import RingChannel
from aipc.transports.shm.handle import RingHandle
from aipc.transports.unix.seqpacket_channel import SeqpacketChannel
from aipc.transports.unix.stream_channel import UnixChannel
from aipc.wire.framing import MAX_MESSAGE_SIZE, framing
from aipc.wire.ring import DEFAULT

from ..answering import AnsweringChannel
from ..asking import AskingChannel
from ..numbered import SIZE
from ..numbered_ring import AnsweringRing, AskingRing

_WORKER, _PARENT = 0, 1  # the directions of a ring
End = Callable[[socket.socket, str, int], TransportChannel]


def _stream(sock: socket.socket, name: str, limit: int) -> UnixChannel:
    return UnixChannel(SocketHandle(sock, name), framing("u32", limit), collects=True)


def _seqpacket(sock: socket.socket, name: str, limit: int) -> SeqpacketChannel:
    return SeqpacketChannel(PacketHandle(sock, name))


def _ring(sock: socket.socket, name: str, limit: int) -> RingChannel:
    handle = RingHandle(sock, name, _PARENT, limit)
    try:
        handle.offer(DEFAULT)
    except BaseException:
        handle.close()
        raise
    return RingChannel(handle, limit)


def _offered_ring(sock: socket.socket, name: str, limit: int) -> RingChannel:
    return RingChannel(RingHandle(sock, name, _WORKER, limit), limit)


_KINDS: dict[str, tuple[socket.SocketKind, End, End]] = {
    "stream": (socket.SOCK_STREAM, _stream, _stream),
    "seqpacket": (socket.SOCK_SEQPACKET, _seqpacket, _seqpacket),
    "shm": (socket.SOCK_STREAM, _ring, _offered_ring),
}


class Kind(NamedTuple):
    """A kind by name, and whether each message begins with a number."""

    name: str
    numbered: bool

    @property
    def limit(self) -> int:
        """The longest message in bytes, for transports without a limit of their own."""
        return MAX_MESSAGE_SIZE + SIZE if self.numbered else MAX_MESSAGE_SIZE


def check_kind(kind: str) -> None:
    """Raise AddressError for an unknown kind."""
    if kind not in _KINDS:
        raise AddressError(f"spawn(channel={kind!r}): must be one of {', '.join(_KINDS)}")


def sockets(kind: Kind) -> tuple[socket.socket, socket.socket]:
    """Return the parent's end and the worker's end."""
    return socket.socketpair(socket.AF_UNIX, _KINDS[kind.name][0])


def parents_end(kind: Kind, sock: socket.socket, name: str) -> TransportChannel:
    """Return the parent's transport."""
    return _KINDS[kind.name][1](sock, name, kind.limit)


async def workers_end(kind: Kind, fd: int) -> Channel:
    """Return the worker's channel, over the inherited socket."""
    transport = _KINDS[kind.name][2](socket.socket(fileno=fd), "the parent", kind.limit)
    return answering(transport) if kind.numbered else transport


def answering(transport: TransportChannel) -> AnsweringChannel:
    """Return a numbered end for a worker's function."""
    return AnsweringRing(transport) if isinstance(transport, RingChannel) else AnsweringChannel(transport)


def asking(transport: TransportChannel) -> AskingChannel:
    """Return a numbered end for a pool."""
    return AskingRing(transport) if isinstance(transport, RingChannel) else AskingChannel(transport)


def hang_up(channel: TransportChannel, how: int = socket.SHUT_RDWR) -> None:
    """Shut the socket down (shutdown(2)): what the peer has sent can still be received."""
    fd: int = channel.extra(ChannelAttribute.descriptor, -1)
    if fd >= 0:
        with socket.socket(fileno=os.dup(fd)) as sock, suppress(OSError):  # the other end may be gone
            sock.shutdown(how)


def end_stream(channel: TransportChannel) -> None:
    """Send the end of the stream, without waiting for room for what a cancelled `send` left."""
    if not isinstance(channel, RingChannel):
        hang_up(channel, socket.SHUT_WR)
    elif channel.extra(ChannelAttribute.descriptor, -1) >= 0:  # its socket is the doorbell, which must keep working
        channel._end_writing()
