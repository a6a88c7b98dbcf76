"""A ring of records in shared memory: one process produces, one consumes. No system call, no `await`.

Both directions of a channel stand in one piece of memory of `memory_size(capacity)` bytes, all numbers 8 bytes, native order:

| offset | what |
| --- | --- |
| 0 + 2048 * direction | `published`: bytes that the producer has made visible, since the beginning; never falls |
| + 128 | `consumed`: bytes that the consumer is through with |
| + 256 | `reader sleeps`: 0, 1 (ring once, and set it to 0 first), 2 (ring each time) |
| + 384 | `writer sleeps`: likewise |
| + 512 | `ended`: 1 when no more will be published |
| + 640 | `registered`: 1 if the producer's process is within reach of membarrier(2) |
| 4096 + capacity * direction | the records |

A record stands at `position mod capacity`, a multiple of 8: a header of 8 bytes, the payload, and zeros up to the next multiple
of 8. The header's lower 48 bits are the payload's length. Bit 63: a skip, nothing but filler up to the ring's end. Bit 62: more
of the same message follows in the next record. A record never wraps.

The peer may be hostile and may write anything at any time: each number is read once, into a local name, and checked before use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import anyio

from aipc.abc import Buffer
from aipc.exceptions import MessageTooLarge, ProtocolError

SMALLEST, LARGEST, DEFAULT = 4 * 1024, 1 << 30, 4 * 1024 * 1024
"""Capacities, bytes: a power of two."""

_PAGE = 4096
_SKIP, _MORE, _LENGTH = 1 << 63, 1 << 62, (1 << 48) - 1
_HEADER = 8
_APART = 16  # words: two cache lines, because processors fetch them in pairs
_CONTROLS = 256  # words of one direction's numbers
_BATCH = 1024  # messages that are taken at once before the producer hears of the room


def memory_size(capacity: int) -> int:
    """Bytes of memory for both directions."""
    return _PAGE + 2 * capacity


def capacity_of(size: int) -> int:
    """The capacity that memory of this size is for. ProtocolError if there is none."""
    capacity = (size - _PAGE) // 2
    if not is_capacity(capacity) or memory_size(capacity) != size:
        raise ProtocolError(f"memory of {size:,} bytes does not hold two rings of a power of two, {SMALLEST:,} to {LARGEST:,}")
    return capacity


def is_capacity(capacity: int) -> bool:
    """Whether a ring may have so many bytes."""
    return SMALLEST <= capacity <= LARGEST and not capacity & (capacity - 1)


class Bell(Protocol):
    """How the two processes wake each other, and learn of each other's end."""

    def ring(self) -> None:
        """Wake the peer."""

    def hung_up(self) -> bool:
        """Whether the peer is gone; asked only when there is nothing to do but wait."""

    def meet(self) -> None:
        """Attach both ends to the memory that the peer offers. BlockingIOError: it has not offered any yet."""


class End:
    """What both ends of one direction share. `barrier` is a full one, or None where plain stores are seen in order."""

    __slots__ = (
        "_asleep", "_barrier", "_base", "_bell", "_capacity", "_consumed", "_direction", "_ended", "_mask", "_memory", "_peer_registered",
        "_published", "_reader_sleeps", "_registered", "_words", "_writer_sleeps", "messages", "position",
    )  # fmt: skip

    def __init__(self, direction: int, bell: Bell, barrier: Callable[[], None] | None) -> None:
        numbers = range(direction * _CONTROLS, (direction + 1) * _CONTROLS, _APART)
        self._published, self._consumed, self._reader_sleeps, self._writer_sleeps, self._ended, self._registered = numbers[:6]
        self._direction = direction
        self._peer_registered = self._registered
        self._asleep = self._reader_sleeps
        self._bell = bell
        self._barrier = barrier
        self._memory: Any = None
        self._words: Any = _Unmet(bell)
        self._capacity = self._mask = self._base = 0
        self.position: int = 0
        """Bytes written or read since the beginning, headers and all."""
        self.messages: int = 0

    def attach(self, memory: Any, words: memoryview) -> None:
        """Work in this memory from now on."""
        self._memory = memory
        self._words = words
        self._capacity = (words.nbytes - _PAGE) // 2
        self._mask = self._capacity - 1
        self._base = _PAGE + self._direction * self._capacity

    def sleep(self, everywhere: Callable[[], None] | None) -> bool:
        """Ask to be rung, before waiting: True if there is something to do after all.

        `everywhere` is a barrier on all processors; None if there is none, and then the peer is to ring each time.
        """
        trusts = everywhere is not None and self._words[self._peer_registered]
        self._words[self._asleep] = 1 if trusts else 2
        if everywhere is not None:
            everywhere()
        return self.moved()

    def moved(self) -> bool:
        """Whether the peer has done something since this end last looked."""
        raise NotImplementedError

    def _wake(self, flag: int) -> None:
        if self._words[flag] == 1:
            self._words[flag] = 0
        self._bell.ring()

    def close(self) -> None:
        """Let go of the memory: who uses this end afterwards gets EBADF."""
        self._words = self._memory = _CLOSED


class Producer(End):
    """The end that writes. `window`: the most bytes that are to wait unread, if that is less than the capacity."""

    __slots__ = ("_room_until", "_window", "largest")

    def __init__(self, direction: int, bell: Bell, barrier: Callable[[], None] | None, window: int) -> None:
        super().__init__(direction, bell, barrier)
        self._asleep = self._writer_sleeps
        self._peer_registered = (1 - direction) * _CONTROLS + self._registered % _CONTROLS
        self._window = window
        self._room_until = -1
        self.largest: int = -1
        """Bytes of payload that find room in an empty ring, wherever its position stands."""

    def attach(self, memory: Any, words: memoryview) -> None:
        super().attach(memory, words)
        self._window = min(self._window, self._capacity)
        self._room_until = self._window
        self.largest = self._window // 2 - _HEADER

    def register(self) -> None:
        """This process is within reach of its peer's barriers."""
        self._words[self._registered] = 1

    def moved(self) -> bool:
        return bool(self._words[self._consumed] + self._window != self._room_until)

    def put(self, item: Buffer) -> None:
        """Publish a message of at most `largest` bytes. BlockingIOError: no room, and nothing happened."""
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
        if self._barrier is not None:
            self._barrier()
        self.position = words[self._published] = position + room
        if words[self._reader_sleeps]:
            self._wake(self._reader_sleeps)
        self.messages += 1

    def put_part(self, item: Buffer) -> int:
        """Publish as much as fits of a long message, a quarter of the ring at least: how many bytes. BlockingIOError if less fits."""
        size = len(item)
        if size <= self.largest:
            self.put(item)
            return size
        position = self._find(self._window // 4)
        offset = position & self._mask
        count = min(size, self._room_until - position - _HEADER, self._capacity - offset - _HEADER)
        start = self._base + offset + _HEADER
        self._memory[start : start + count] = item[:count]
        self._publish(position, count, _MORE if count < size else 0)
        return count

    def reserve(self, size: int) -> tuple[int, int]:
        """Room for a message of at most `largest` bytes: its payload's first and last place in the memory. BlockingIOError: none."""
        start = self._base + (self._find((size + 15) & -8) & self._mask) + _HEADER
        return start, start + size

    def publish(self, start: int, size: int) -> None:
        """What was written into a reserved room is a message."""
        self._publish(self.position + (start - _HEADER - self._base - self.position & self._mask), size, 0)

    def _publish(self, position: int, size: int, flags: int) -> None:
        words = self._words
        words[self._base + (position & self._mask) >> 3] = size | flags
        if self._barrier is not None:
            self._barrier()
        self.position = words[self._published] = position + ((size + 15) & -8)
        if words[self._reader_sleeps]:
            self._wake(self._reader_sleeps)
        self.messages += not flags

    def _find(self, room: int) -> int:
        """Where a record of `room` bytes may begin, behind a skip if need be. BlockingIOError, or EPIPE if the peer is gone."""
        consumed = self._words[self._consumed]
        position, capacity = self.position, self._capacity
        if not position - capacity <= consumed <= position or consumed % 8:
            raise ProtocolError(f"the peer says that it has read {consumed:,} bytes; {position:,} were written")
        self._room_until = consumed + self._window
        behind = capacity - (position & self._mask)
        skipped = 0 if room <= behind else behind
        if position + skipped + room > self._room_until:
            if self._bell.hung_up():
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            raise BlockingIOError
        if skipped:
            self._words[self._base + (position & self._mask) >> 3] = _SKIP
        return position + skipped

    def end(self) -> None:
        """No more will be published."""
        self._words[self._ended] = 1
        self._bell.ring()


class Consumer(End):
    """The end that reads. `limit`: the longest message, bytes."""

    __slots__ = ("_failed", "_limit", "_parts", "_plain", "_shown")

    def __init__(self, direction: int, bell: Bell, barrier: Callable[[], None] | None, limit: int) -> None:
        super().__init__(direction, bell, barrier)
        self._limit = limit
        self._plain = limit  # the longest record that is a whole message; -1 while a message in parts is under way
        self._parts: list[bytes] = []
        self._failed: Exception | None = None
        self._shown = -1  # the size of the message that `show` has shown

    def moved(self) -> bool:
        return bool(self._words[self._published] != self.position)

    def take(self) -> bytes:
        """The next message. BlockingIOError if there is none, EndOfStream if there will be none."""
        words = self._words
        position = self.position
        there = words[self._published] - position
        if not there:
            self._nothing()
        if self._barrier is not None:
            self._barrier()
        offset = position & self._mask
        start = self._base + offset
        size = words[start >> 3]
        room = (size + 15) & -8
        if size > self._plain or room > there or there > self._capacity or offset + room > self._capacity:
            return self._take_other()
        start += 8
        data: bytes = self._memory[start : start + size]
        if self._barrier is not None:
            self._barrier()
        self.position = words[self._consumed] = position + room
        if words[self._writer_sleeps]:
            self._wake(self._writer_sleeps)
        self.messages += 1
        return data

    def take_many(self, most: int | None) -> list[bytes]:
        """All messages that are there, at least one; at most `most`. BlockingIOError, EndOfStream as `take`."""
        messages = [self.take()]
        most = _BATCH if most is None else min(most, _BATCH)
        while len(messages) < most and self.moved():
            try:
                messages.append(self.take())
            except (BlockingIOError, ProtocolError, MessageTooLarge):
                break  # the start of a message; or the next call meets the error again
        return messages

    def show(self) -> tuple[int, int] | None:
        """The next message's payload in the memory: first and last place; it stays until `free`. None if it comes in parts."""
        start, more, size = self._next()
        if more or self._parts:
            return None
        self._shown, self._plain = size, -1
        return start, start + size

    def free(self) -> None:
        """Be through with the message that was shown, if one was."""
        if self._shown < 0:
            return
        size, self._shown, self._plain = self._shown, -1, self._limit
        self._consume(self.position + ((size + 15) & -8))
        self.messages += 1

    def _next(self) -> tuple[int, bool, int]:
        """The next record's payload: its place, whether more follows, its size. Skips are skipped. Checked."""
        while True:
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if self._shown >= 0:
                raise BlockingIOError
            there = self._words[self._published] - self.position
            if not there:
                self._nothing()
            if self._barrier is not None:
                self._barrier()
            offset = self.position & self._mask
            header = self._words[self._base + offset >> 3]
            behind = self._capacity - offset
            if header == _SKIP and there % 8 == 0 and behind < there <= self._capacity:
                self._consume(self.position + behind)
                continue
            size = header & ~_MORE
            room = (size + 15) & -8
            if there % 8 or there > self._capacity or room > min(there, behind) or size > _LENGTH:
                self._fail(ProtocolError(f"the peer published {there:,} bytes, and a record of {header:#x} in them"))
            if sum(map(len, self._parts)) + size > self._limit:
                self._fail(MessageTooLarge(f"the peer sends more than max_message_size, {self._limit:,} bytes"))
            return self._base + offset + _HEADER, bool(header & _MORE), size

    def _take_other(self) -> bytes:
        """A message in parts, one behind a skip, or a bad one."""
        while True:
            start, more, size = self._next()
            data: bytes = self._memory[start : start + size]
            self._consume(self.position + ((size + 15) & -8))
            if not (more or self._parts):
                break
            self._parts.append(data)
            self._plain = -1
            if not more:
                data, self._parts, self._plain = b"".join(self._parts), [], self._limit
                break
        self.messages += 1
        return data

    def _consume(self, position: int) -> None:
        if self._barrier is not None:
            self._barrier()
        self.position = self._words[self._consumed] = position
        if self._words[self._writer_sleeps]:
            self._wake(self._writer_sleeps)

    def _fail(self, error: Exception) -> NoReturn:
        self._failed, self._plain, self._parts = error, -1, []
        raise error

    def _nothing(self) -> NoReturn:
        gone = self._bell.hung_up() or bool(self._words[self._ended])
        if gone and not self.moved():  # asked after: what it published before it went is still to be taken
            if self._parts:
                self._fail(ProtocolError("the peer closed in the middle of a message"))
            raise anyio.EndOfStream
        raise BlockingIOError


class _Unmet:
    """In place of memory that the peer has yet to offer: the first use meets it."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    def __getitem__(self, index: int) -> int:
        self._bell.meet()
        return 0  # as in all new memory

    def __setitem__(self, index: int, value: int) -> None:
        self._bell.meet()
        raise BlockingIOError  # nothing was stored: once more


class _Closed:
    """In place of memory that was unmapped."""

    def __getitem__(self, *_: object) -> NoReturn:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    __setitem__ = __getitem__


_CLOSED: Any = _Closed()
