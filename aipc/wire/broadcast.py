"""A ring that one process writes and any number of processes read, each at its own speed. No system call, no `await`.

The memory, all numbers 8 bytes, native order:

| offset | what |
| --- | --- |
| 0 | `claimed`: bytes up to which the writer writes, or has written, since the beginning |
| 128 | `published`: bytes up to which records are whole |
| 256 | `resume`: where the first record begins that began in the present half of the ring |
| 4096 | the records, `capacity` bytes, a power of two |

A record stands at `position mod capacity`, a multiple of 8: a header of 32 bytes, the topic, the data, and filler up to the next
multiple of 8. It never wraps: what is left at the ring's end is skipped, if that is too little for a header, and else has a
record of the kind SKIP. The header is: length of all (4 bytes), length of the data (4), length of the topic (2), kind (2), zeros
(4), how many messages this topic has had, this one included (8), and how many there were of all topics (8).

The writer never waits. It raises `claimed`, writes, and raises `published`. A reader copies, and then looks at `claimed`: what it
copied is whole if the writer has not yet claimed the same bytes for a later lap. Otherwise it was overtaken, and goes on at
`resume`: the last message is never lost. The counts tell how much it missed. Readers can only read: they harm neither the writer nor each other.

The writer may be hostile and may write anything at any time: what was copied is checked before use.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from aipc.exceptions import ProtocolError

PAGE = 4096
SMALLEST, LARGEST, DEFAULT = 4 * 1024, 1 << 30, 4 * 1024 * 1024
"""Capacities, bytes: a power of two."""
_CLAIMED, _PUBLISHED, _RESUME = 0, 16, 32  # words
_HEADER = struct.Struct("=IIHHIQQ")
_MESSAGE, _SKIP = 1, 2
_AT_ONCE = 256 * 1024
"""Bytes that a reader copies at once: few enough not to be overtaken meanwhile."""


class Record(NamedTuple):
    """A message: `of_topic` is how many its topic has had, this one included, and `number` how many there were of all."""

    topic: bytes
    data: bytes
    of_topic: int
    number: int


def is_capacity(capacity: int) -> bool:
    """Whether a ring may have so many bytes."""
    return SMALLEST <= capacity <= LARGEST and not capacity & (capacity - 1)


def longest(capacity: int) -> int:
    """Bytes of topic and data together, at most: a fourth of the ring, so that readers have time."""
    return capacity // 4 - _HEADER.size


class Writer:
    """The one that publishes. `fence` orders stores where the processor does not (`_sys.membarrier`)."""

    def __init__(self, memory: memoryview, fence: Callable[[], None] | None) -> None:
        self._words: Any = memory[:PAGE].cast("Q")
        self._bytes = memory[PAGE:]
        self._capacity = len(self._bytes)
        self._fence = fence
        self._position = 0
        self._half = self._capacity // 2
        self._begun = 0
        self.number: int = 0
        """Messages so far."""

    def publish(self, topic: bytes, data: bytes, of_topic: int) -> None:
        """Write one message, over the oldest ones."""
        size = _HEADER.size + len(topic) + len(data)
        whole = (size + 7) & ~7
        start = self._position
        at = start % self._capacity
        left = self._capacity - at
        skipped = left if left < whole else 0
        end = start + skipped + whole
        self._words[_CLAIMED] = end
        if self._fence is not None:
            self._fence()
        if skipped:
            if skipped >= _HEADER.size:
                _HEADER.pack_into(self._bytes, at, skipped, 0, 0, _SKIP, 0, 0, 0)
            at = 0
        self.number += 1
        _HEADER.pack_into(self._bytes, at, whole, len(data), len(topic), _MESSAGE, 0, of_topic, self.number)
        at += _HEADER.size
        self._bytes[at : at + len(topic)] = topic
        at += len(topic)
        self._bytes[at : at + len(data)] = data
        if self._fence is not None:
            self._fence()
        self._words[_PUBLISHED] = self._position = end
        if start // self._half != self._begun:
            self._begun = start // self._half
            self._words[_RESUME] = start

    @property
    def position(self) -> int:
        """Where the next message will begin."""
        return self._position

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._bytes.release()


class Reader:
    """One that reads, from `position` on. `overtaken` counts how often the writer was quicker by a whole ring."""

    def __init__(self, memory: memoryview, position: int, fence: Callable[[], None] | None) -> None:
        self._words: Any = memory[:PAGE].cast("Q")
        self._bytes = memory[PAGE:]
        self._capacity = len(self._bytes)
        self._fence = fence
        self._position = position
        self.overtaken: int = 0

    @property
    def behind(self) -> bool:
        """Whether there is something to read."""
        return bool(self._words[_PUBLISHED] != self._position)

    def read(self) -> list[Record]:
        """The next messages: none if there are none now, or if the reader was overtaken. ProtocolError."""
        published: int = self._words[_PUBLISHED]
        to_end = self._capacity - self._position % self._capacity
        if to_end < _HEADER.size and published != self._position:
            self._position += to_end
        start = self._position
        ahead = published - start
        if not ahead:
            return []
        if self._fence is not None:
            self._fence()
        copied = self._copy(start, min(ahead, _AT_ONCE)) if 0 < ahead <= self._capacity else b""
        if self._fence is not None:
            self._fence()
        if ahead < 0 or published % 8:
            raise ProtocolError(f"a publisher's ring says {published} after {start}")
        if self._words[_CLAIMED] - start > self._capacity:
            return self._resume()
        records, used = _records(copied)
        if not used:  # a message that is longer than what is copied at once
            copied = self._copy(start, ahead)
            if self._words[_CLAIMED] - start > self._capacity:
                return self._resume()
            records, used = _records(copied)
            if not used:
                raise ProtocolError("a publisher's ring has a record that ends nowhere")
        self._position = start + used
        return records

    def _resume(self) -> list[Record]:
        self.overtaken += 1
        self._position = self._words[_RESUME]
        if self._position % 8:
            raise ProtocolError(f"a publisher's ring says to go on at {self._position}")
        return []

    def _copy(self, start: int, size: int) -> bytes:
        at = start % self._capacity
        return bytes(self._bytes[at : min(at + size, self._capacity)])

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._bytes.release()


def _records(copied: bytes) -> tuple[list[Record], int]:
    """The whole records at the beginning, and how many bytes they take. ProtocolError."""
    records: list[Record] = []
    at, end = 0, len(copied)
    while at < end:
        if end - at < _HEADER.size:
            break
        whole, length, topic_length, kind, _, of_topic, number = _HEADER.unpack_from(copied, at)
        if whole < _HEADER.size or whole % 8:
            raise ProtocolError(f"a publisher's ring has a record of {whole} bytes")
        if at + whole > end:
            break
        if kind == _MESSAGE:
            topic_at = at + _HEADER.size
            data_at = topic_at + topic_length
            if data_at + length > at + whole:
                raise ProtocolError("a publisher's ring has a record that is longer than it says")
            records.append(Record(copied[topic_at:data_at], copied[data_at : data_at + length], of_topic, number))
        elif kind != _SKIP:
            raise ProtocolError(f"a publisher's ring has a record of kind {kind}")
        at += whole
    return records, at
