"""Two connected channels without a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

from aipc._io.errors import naming
from aipc.abc import Channel, StreamChannel
from aipc.exceptions import AddressError

from .shm import channel as shm_channel
from .unix import datagram as unix_datagram
from .unix import seqpacket as unix_seqpacket
from .unix import stream as unix

_KINDS: dict[str, Callable[[], tuple[Channel, Channel]]] = {
    "stream": unix.pair,
    "seqpacket": unix_seqpacket.pair,
    "dgram": unix_datagram.pair,
    "shm": shm_channel.pair,
}


@overload
def channel_pair(kind: Literal["stream"] = ...) -> tuple[StreamChannel, StreamChannel]: ...
@overload
def channel_pair(kind: Literal["seqpacket", "dgram"]) -> tuple[Channel, Channel]: ...
@overload
def channel_pair(kind: Literal["shm"]) -> tuple[shm_channel.RingChannel, shm_channel.RingChannel]: ...


def channel_pair(kind: str = "stream") -> tuple[Channel, Channel]:
    """Return two channels, each the other's peer (socketpair(2)).

    Args:
        kind: "stream" (framed messages over a Unix stream socket), "seqpacket" or "dgram" (the kernel keeps messages apart),
            "shm" (shared memory).

    Raises:
        AddressError: An unknown kind.
    """
    if kind not in _KINDS:
        raise AddressError(f"channel_pair({kind!r}): must be one of {', '.join(_KINDS)}")
    with naming(f"channel_pair({kind!r})"):
        return _KINDS[kind]()
