"""The writing end of a ring (`ring`)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from aipc.abc import Buffer
from aipc.exceptions import ProtocolError

from .ring import CONTROLS, HEADER, PART, SKIP, Barriers, End, Peer, in_c

_NEVER = 1 << 64


class Producer(End):
    """The end that writes. `window`: the most bytes that may wait unread, if that is less than the capacity."""

    __slots__ = ("_lent", "_wanted", "_window", "largest")

    position: int

    def __init__(self, direction: int, peer: Peer, barriers: Barriers, window: int) -> None:
        super().__init__(direction, peer, barriers)
        self._asleep = self._writer_sleeps
        self._peer_registered = (1 - direction) * CONTROLS + self._registered % CONTROLS
        self._window = window
        self._room_until = -1  # `consumed` plus the window, when last looked at; -1: look
        self._wanted = 0  # what it must be for the last vain try to succeed
        self._lent = -1  # where the reserved record stands
        self.largest: int = -1
        """Bytes of payload that find room in an empty ring, wherever its position stands."""

    def attach(self, memory: Any, words: memoryview) -> None:
        super().attach(memory, words)
        self._window = min(self._window, self._capacity)
        self.largest = self._window // 2 - HEADER
        if self._global_barrier is not None:
            words[self._registered] = 1

    def watch(self, looks: int) -> bool:
        return any(self._words[self._consumed] + self._window >= self._wanted for _ in range(looks))

    def put(self, item: Buffer) -> None:
        """Publish a message of at most `largest` bytes. BlockingIOError: no room, and nothing happened. EPIPE: no peer."""
        size = len(item)
        room = (size + 15) & -8
        position = self.position
        offset = position & self._mask
        if position + room > self._room_until or offset + room > self._capacity:
            position = self._find(room)
            offset = position & self._mask
        start = self._base + offset
        words = self._words
        words[start >> 3] = size
        start += 8
        self._memory[start : start + size] = item
        if self._fence is not None:
            self._fence()
        self.position = words[self._published] = position + room
        if words[self._reader_sleeps]:
            self._tell()

    def put_many(self, items: Sequence[Any], longest: int) -> int:
        """Publish the first items as one, as long as each is `bytes`, no longer than `longest`, and finds room: how many.

        EPIPE: no peer.
        """
        words, memory, base, mask = self._words, self._memory, self._base, self._mask
        position, room_until, capacity = self.position, self._room_until, self._capacity
        count = 0
        for item in items:
            size = len(item) if type(item) is bytes else _NEVER
            room = (size + 15) & -8
            offset = position & mask
            if size > longest or position + room > room_until or offset + room > capacity:
                break
            start = base + offset
            words[start >> 3] = size
            start += 8
            memory[start : start + size] = item
            position += room
            count += 1
        if count:
            self._show(position)
        return count

    def put_part(self, item: Buffer) -> int:
        """Publish a message, or as much of a long one as fits, a quarter of the ring at least: how many bytes.

        BlockingIOError if less fits. EPIPE: no peer.
        """
        self._meet()
        size = len(item)
        if size <= self.largest:
            self.put(item)
            return size
        position = self._find(self._window // 4)
        offset = position & self._mask
        room = min(self._room_until - position, self._capacity - offset)
        start = self._base + offset + HEADER
        if size + HEADER <= room:
            self._memory[start : start + size] = item
            self._publish(position, size, 0)
            return size
        count = room - 2 * HEADER
        self._words[start >> 3] = size
        start += 8
        self._memory[start : start + count] = item[:count]
        self._publish(position, count + 8, PART)
        return count

    def reserve(self, size: int) -> tuple[int, int]:
        """Room for a message of at most `largest` bytes: its payload's first and last place in the memory.

        BlockingIOError: no room. Nothing can be put until `publish` or `give_up`.
        """
        position = self._find((size + 15) & -8)
        self._lent = position
        self._room_until = -1
        start = self._base + (position & self._mask) + HEADER
        return start, start + size

    def publish(self, size: int) -> None:
        """What was written into the reserved room is a message."""
        position = self._lent
        self.give_up()
        self._publish(position, size, 0)

    def give_up(self) -> None:
        """The reserved room is free again."""
        self._lent = -1

    def end(self) -> None:
        """No more will be published. BlockingIOError: the peer has not offered memory yet."""
        self._meet()
        if self._fence is not None:
            self._fence()
        self._words[self._ended] = 1
        self._peer.wake_peer()

    def _meet(self) -> None:
        if self._memory is None:
            self._peer.meet()

    def _publish(self, position: int, size: int, flags: int) -> None:
        self._words[self._base + (position & self._mask) >> 3] = size | flags
        self._show(position + ((size + 15) & -8))

    def _show(self, position: int) -> None:
        """All records before `position` are there to be read."""
        words = self._words
        if self._fence is not None:
            self._fence()
        self.position = words[self._published] = position
        if words[self._reader_sleeps]:
            self._tell()

    def _tell(self) -> None:
        """Wake the consumer. EPIPE: it is gone, and will not read what was published."""
        self._wake(self._reader_sleeps)
        if self._peer.gone:
            raise _broken()

    def _find(self, room: int) -> int:
        """Where a record of `room` bytes may begin, behind a skip if need be. BlockingIOError, or EPIPE if the peer is gone."""
        self._meet()
        consumed = self._words[self._consumed]
        position, capacity = self.position, self._capacity
        if not position - capacity <= consumed <= position or consumed % 8:
            raise ProtocolError(f"the peer says that it has read {consumed:,} bytes; {position:,} were written")
        behind = capacity - (position & self._mask)
        skipped = 0 if room <= behind else behind
        self._wanted = _NEVER if self._lent >= 0 else position + skipped + room
        self._room_until = -1 if self._lent >= 0 else consumed + self._window
        if self._wanted > self._room_until:
            if self._peer.drain_doorbell():
                raise _broken()
            raise BlockingIOError
        if skipped:
            self._words[self._base + (position & self._mask) >> 3] = SKIP
        return position + skipped


in_c(Producer, "put", "put_many")


def _broken() -> OSError:
    return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
