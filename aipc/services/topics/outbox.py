"""One subscriber's queue of messages, with a limit and a rule for what happens there."""

from __future__ import annotations

import logging
from collections import deque

import anyio

from .frames import encode_count, encode_message

_logger = logging.getLogger("aipc")
_TOLD = 1000
"""One log message for so many that are dropped."""
_AT_ONCE, _BYTES_AT_ONCE = 256, 1 << 20
OVERFLOWS = ("drop_oldest", "drop_newest", "disconnect", "block")


class Outbox:
    """At most `limit` messages. `number` is the last one's number, sent or not; `over` is set when the subscriber must leave."""

    def __init__(self, limit: int, overflow: str) -> None:
        self.number: int = 0
        self.dropped: int = 0
        self.over: anyio.Event = anyio.Event()
        self._limit = limit
        self._overflow = overflow
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._told = -1  # the last number that the subscriber knows; not even the first count was sent
        self._sending = False
        self._filled: anyio.Event | None = None
        self._emptied: anyio.Event | None = None

    @property
    def full(self) -> bool:
        """Whether there is no room for the next message."""
        return len(self._queue) >= self._limit and not self.over.is_set()

    @property
    def idle(self) -> bool:
        """Whether everything was sent, or never will be."""
        return self.over.is_set() or (self._told == self.number and not self._sending)

    def put(self, topic: bytes, data: bytes) -> None:
        """Add a message. Its number is used even if it is dropped: so the subscriber learns of it."""
        self.number += 1
        if self.full:
            self.dropped += 1
            if self.dropped % _TOLD == 1:
                _logger.debug("a subscriber does not keep up: %d messages dropped so far", self.dropped)
            if self._overflow == "disconnect":
                self.close()
                return
            if self._overflow == "drop_newest":
                return
            self._queue.popleft()
        self._queue.append((self.number, topic, data))
        if self._filled is not None:
            self._filled.set()

    async def take(self) -> list[bytes]:
        """Return the frames to send next; call `sent` afterwards."""
        while not self._queue and self._told == self.number:
            self._filled = anyio.Event()
            await self._filled.wait()
        self._sending = True
        frames: list[bytes] = []
        size = 0
        if self._told < 0:
            self._told = 0
            frames.append(encode_count(0))
        while self._queue and len(frames) < _AT_ONCE and size < _BYTES_AT_ONCE:
            self._told, topic, data = self._queue.popleft()
            frames.append(encode_message(self._told, topic, data))
            size += len(data)
        if not self._queue and self._told != self.number:
            self._told = self.number
            frames.append(encode_count(self.number))
        self._tell_emptied()
        return frames

    def sent(self) -> None:
        """Note that the frames of `take` are on their way."""
        self._sending = False
        self._tell_emptied()

    async def wait_emptied(self) -> None:
        """Wait until some messages were sent, or never will be. Cancelled: nothing happened."""
        if self._emptied is None:
            self._emptied = anyio.Event()
        await self._emptied.wait()

    def _tell_emptied(self) -> None:
        event, self._emptied = self._emptied, None
        if event is not None:
            event.set()

    def close(self) -> None:
        """Note that the subscriber must leave, or has left."""
        self.over.set()
        self._queue.clear()
        self._tell_emptied()
