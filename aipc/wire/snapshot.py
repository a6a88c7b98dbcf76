"""A snapshot's bytes: one writer's latest value in shared memory, whole for any number of readers, without locks or I/O.

All numbers are in the machine's byte order. The memory begins with a header of 64 bytes:

| offset | type | what |
| --- | --- | --- |
| 0 | 8 bytes | `aipcsnap` |
| 8 | u32 | version, 1 |
| 12 | u32 | slots: how many, 2 or more |
| 16 | u64 | capacity: bytes of the largest value |
| 24 | u64 | latest: the number of the newest whole value; 0 before the first |
| 32 | | zero |

Slot `n % slots` has value number n, and begins at `64 + n % slots * stride`; stride is `32 + capacity`, rounded up to 64:

| offset | type | what |
| --- | --- | --- |
| 0 | u64 | number; 0 while it is being written |
| 8 | u64 | length of the value, bytes |
| 16 | u32 | CRC-32, as zlib's, of the number, the length (16 bytes as they stand here) and the value |
| 20 | | zero |
| 32 | | the value |

The writer takes the next number, writes 0 into its slot, then the length, the CRC and the value, then the number, and last
`latest`. A reader reads `latest`, copies that slot, and takes it if the slot had that number before and after, and the CRC is
right; otherwise it begins again. The writer never waits. On machines that keep the order of stores, as x86 does, the number
alone would do; the CRC makes it hold on all others, and tells damage from change.
"""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Callable

from aipc.exceptions import MessageTooLarge, ProtocolError, WrongObject

MAGIC = b"aipcsnap"
VERSION = 1
SLOTS = 3
"""A reader's copy must end before the writer comes round to its slot again: with 3, that is two whole values later."""

_HEADER = struct.Struct("=8sIIQQ")
_NUMBERS = struct.Struct("=QQ")
_HEADER_SIZE, _SLOT_HEADER_SIZE, _LINE = 64, 32, 64
_LATEST = 24 // 8
_TRIES = 100


def _stride(capacity: int) -> int:
    return -(-(_SLOT_HEADER_SIZE + capacity) // _LINE) * _LINE


def size(capacity: int) -> int:
    """Bytes of memory for values of up to `capacity` bytes."""
    return _HEADER_SIZE + SLOTS * _stride(capacity)


def header(capacity: int) -> bytes:
    """What new memory begins with; the rest of it is zero."""
    return _HEADER.pack(MAGIC, VERSION, SLOTS, capacity, 0)


class Layout:
    """The numbers and values in some memory, `view`, until `release`. There must be one writer, which calls `publish`."""

    __slots__ = ("_name", "_slots", "_stride", "_view", "_words", "capacity")

    def __init__(self, view: memoryview, name: str) -> None:
        """WrongObject if there is no snapshot in it. `name` is what errors call it."""
        if len(view) < _HEADER_SIZE:
            raise WrongObject(errno.EINVAL, f"{name}: not a snapshot: {len(view)} bytes are too few")
        magic, version, slots, capacity, _ = _HEADER.unpack(bytes(view[: _HEADER.size]))  # a copy: what is checked is used
        if magic != MAGIC or version != VERSION:
            raise WrongObject(errno.EINVAL, f"{name}: not a snapshot of version {VERSION}: it begins with {magic!r}, {version}")
        if slots < 2 or _HEADER_SIZE + slots * _stride(capacity) > len(view):
            raise WrongObject(
                errno.EINVAL, f"{name}: a damaged snapshot: {slots} slots for {capacity:,} bytes don't fit {len(view):,} bytes"
            )
        self.capacity: int = capacity
        self._name = name
        self._slots: int = slots
        self._stride = _stride(capacity)
        self._view = view[: _HEADER_SIZE + slots * self._stride]
        self._words = self._view.cast("Q")

    def release(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._view.release()

    @property
    def latest(self) -> int:
        """The number of the newest whole value; 0 before the first."""
        return self._words[_LATEST]

    def publish(self, data: bytes | bytearray | memoryview) -> int:
        """Write the next value: its number. MessageTooLarge over the capacity."""
        length = len(data)
        if length > self.capacity:
            raise MessageTooLarge(f"{self._name}: a value of {length:,} bytes; this snapshot holds up to {self.capacity:,}")
        words = self._words
        number = words[_LATEST] + 1
        at = _HEADER_SIZE + number % self._slots * self._stride
        word = at // 8
        words[word] = 0
        words[word + 1] = length
        words[word + 2] = _checksum(number, data)
        self._view[at + _SLOT_HEADER_SIZE : at + _SLOT_HEADER_SIZE + length] = data
        words[word] = number
        words[_LATEST] = number
        return number

    def read(self) -> tuple[int, bytes] | None:
        """The newest whole value with its number; None before the first. ProtocolError if the memory was damaged."""
        tries = 0
        while number := self._words[_LATEST]:
            value = self._value(number)
            if value is not None:
                return number, value
            tries = 0 if self._words[_LATEST] != number else tries + 1
            if tries == _TRIES:
                raise ProtocolError(f"{self._name}: value {number:,} is damaged: somebody else wrote into the memory")
        return None

    def _value(self, number: int) -> bytes | None:
        """Value `number`; None if its slot is being written, or is damaged."""
        words = self._words
        at = _HEADER_SIZE + number % self._slots * self._stride
        word = at // 8
        if words[word] != number:
            return None
        length, checksum = words[word + 1], words[word + 2]
        if length > self.capacity:
            return None
        value = bytes(self._view[at + _SLOT_HEADER_SIZE : at + _SLOT_HEADER_SIZE + length])
        return value if words[word] == number and checksum == _checksum(number, value) else None


def _checksum(number: int, value: bytes | bytearray | memoryview, crc32: Callable[..., int] = zlib.crc32) -> int:
    return crc32(value, crc32(_NUMBERS.pack(number, len(value))))
