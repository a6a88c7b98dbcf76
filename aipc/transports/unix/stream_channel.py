"""Messages, and descriptors beside them, over a connected Unix stream socket (unix(7)).

Descriptors belong to the message of which their sendmsg(2) carried the last byte: the kernel ends a read after that byte. A channel
collects them from its first `receive_message` on, or from the beginning if it was opened with `fds`. Before that, the kernel closes
descriptors that come, because plain read(2) saves a tenth of a round trip.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from aipc._io.handle import SocketHandle
from aipc._sys import rights
from aipc.abc import ChannelAttribute, Message
from aipc.exceptions import InvalidMessage, UnsupportedOperation
from aipc.wire.framing import Frame, Framing

from ..byte_stream import READ_SIZE
from ..socket_stream import SocketStreamChannel
from . import address as unix_address


class UnixChannel(SocketStreamChannel):
    """Messages over a connected Unix stream socket. `collects`: take descriptors from the first read on."""

    SEND_OPTIONS: ClassVar[frozenset[str]] = frozenset({"fds"})
    _CALLS_PLAINLY: ClassVar[bool] = True  # as long as it collects no descriptors
    _RECEIVES_IN_C: ClassVar[bool] = True

    __slots__ = ("_received_fds",)

    def __init__(self, handle: SocketHandle, framing: Framing, *, collects: bool = False) -> None:
        super().__init__(handle, framing)
        self._received_fds: _ReceivedFds | None = None
        if collects:
            self._collect()

    def _collect(self) -> _ReceivedFds:
        self._received_fds, self._native_kind = _ReceivedFds(), 0
        return self._received_fds

    def _read(self) -> bytes:
        if self._received_fds is None:
            reader = self._handle  # as the base does, but a call to it takes a tenth of the time
            data = os.read(reader.fd, READ_SIZE)
            reader.readable.exhausted = len(data) < READ_SIZE and reader.readable.trusts_edges
            reader.readable.empty = False
            return data
        received = rights.receive(self._handle.socket(), READ_SIZE)
        self._received_fds.add(self._received + 1, received.fds, received.flags)
        return received.data

    def _read_into(self, space: memoryview) -> int:
        if self._received_fds is None:
            return super()._read_into(space)
        count, fds, flags = rights.receive_into(self._handle.socket(), space)
        self._received_fds.add(self._received + 1, fds, flags)
        return count

    def _fill(self) -> list[bytes]:
        received_fds = self._received_fds
        if received_fds is None:
            return SocketStreamChannel._fill(self)  # `super()` takes a tenth of a microsecond
        received_fds.discard(self._received)
        messages = super()._fill()
        unfinished = bool(self._rest) or self._body is not None
        received_fds.settle(self._received + len(messages) + unfinished)
        return messages

    def _take_message(self) -> Message:
        received_fds = self._received_fds or self._collect()
        data = self._take()
        fds, truncated = received_fds.pop(self._received)
        return Message(data, fds=fds, truncated=truncated)

    def _push_beside(self, frame: Frame, fds: Sequence[int]) -> int:
        if not len(frame):
            raise InvalidMessage(f"{self._name}: descriptors need at least one byte of data (framing=none, no data)")
        return rights.send(self._handle.socket(), (frame,) if isinstance(frame, bytes) else frame, fds)

    async def send_many(self, items: Any, **meta: Any) -> None:
        if "fds" in meta:
            raise UnsupportedOperation(f"{self._name}: descriptors go with one message: use send(data, fds=[…])")
        await super().send_many(items, **meta)

    def close(self) -> None:
        super().close()
        if self._received_fds is not None and not self._handle.forked:
            self._received_fds.discard()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            ChannelAttribute.peer_credentials: lambda: self._handle.ask(unix_address.credentials),
            ChannelAttribute.peer_pidfd: lambda: self._handle.ask(unix_address.pidfd),
        }


class _ReceivedFds:
    """Descriptors that came, by the number of their message; the channel's first message is 1."""

    __slots__ = ("_came", "_cut", "_of")

    def __init__(self) -> None:
        self._of: dict[int, tuple[tuple[int, ...], bool]] = {}
        self._came: tuple[int, ...] = ()
        self._cut = False

    def add(self, message: int, fds: tuple[int, ...], flags: int) -> None:
        """Note one more read while `message` was incomplete: the descriptors of the reads before it belong to that message."""
        self.settle(message)
        self._came, self._cut = fds, bool(flags & rights.CUT)

    def settle(self, message: int) -> None:
        """Give the descriptors of the last read to `message`."""
        if self._came or self._cut:
            fds, cut = self._of.get(message, ((), False))
            self._of[message] = (*fds, *self._came), cut or self._cut
            self._came, self._cut = (), False

    def pop(self, message: int) -> tuple[tuple[int, ...], bool]:
        """Return the descriptors of `message`, and whether some are missing. Descriptors of earlier messages are closed."""
        found = self._of.pop(message, ((), False))
        self.discard(message)
        return found

    def discard(self, upto: float = math.inf) -> None:
        """Close the descriptors of messages up to that number: the messages were received without them."""
        for message in [number for number in self._of if number <= upto]:
            rights.close(self._of.pop(message)[0])
        if upto == math.inf:
            rights.close(self._came)
            self._came = ()
