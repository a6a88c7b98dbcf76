"""The two ends of the channel between a worker and its parent, by kind: the names are those of `aipc.channel_pair`.

Each is made of one end of a socketpair(2), which the worker inherits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from aipc._io.handle import SocketHandle
from aipc.abc import Channel
from aipc.exceptions import AddressError
from aipc.transports.base import TransportChannel
from aipc.transports.packet import PacketHandle
from aipc.transports.seqpacket_channel import SeqpacketChannel
from aipc.transports.unix_channel import UnixChannel
from aipc.wire.framing import framing

End = Callable[[socket.socket, str], TransportChannel]


def _stream(sock: socket.socket, name: str) -> UnixChannel:
    return UnixChannel(SocketHandle(sock, name), framing("u32"), collects=True)


def _seqpacket(sock: socket.socket, name: str) -> SeqpacketChannel:
    return SeqpacketChannel(PacketHandle(sock, name))


# A ring in shared memory ("shm") meets over such a socket, too: its row goes here.
_KINDS: dict[str, tuple[socket.SocketKind, End, End]] = {
    "stream": (socket.SOCK_STREAM, _stream, _stream),
    "seqpacket": (socket.SOCK_SEQPACKET, _seqpacket, _seqpacket),
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
