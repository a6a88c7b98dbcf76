"""Two connected channels at once, without a name."""

from __future__ import annotations

from collections.abc import Callable

from aipc.exceptions import AddressError

from . import shm_channel, unix
from .byte_stream import ByteStreamChannel

_KINDS: dict[str, Callable[[], tuple[ByteStreamChannel, ByteStreamChannel]]] = {"stream": unix.pair, "shm": shm_channel.pair}


def channel_pair(kind: str = "stream") -> tuple[ByteStreamChannel, ByteStreamChannel]:
    """Two channels, each the other's peer. `kind`: "stream" (a Unix stream socket pair, socketpair(2))."""
    if kind not in _KINDS:
        raise AddressError(f"channel_pair({kind!r}): must be one of {', '.join(_KINDS)}")
    return _KINDS[kind]()
