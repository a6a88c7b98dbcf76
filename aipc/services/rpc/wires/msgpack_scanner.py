"""Finding the ends of MessagePack objects: https://github.com/msgpack/msgpack/blob/master/spec.md. No decoding, no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from aipc.exceptions import ProtocolError

_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
_FIXED |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
"""Bytes of a whole object: nil, booleans, numbers, fixext."""
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the length of binary data and texts."""
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
"""The same of extensions, which have a byte for their type besides."""
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count of arrays and maps, and objects an entry."""


class Scanner:
    """Cuts a stream of bytes into objects. It keeps the start of the next one, and its place there: each byte is read once."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._at = 0  # the next object within `_rest`, which may be one that the outermost object holds
        self._missing = 1  # objects until the outermost one is whole

    @property
    def waiting(self) -> int:
        """The bytes of an incomplete object."""
        return len(self._rest)

    def split(self, data: bytes) -> Iterator[bytes]:
        """Return the complete objects one by one: a message may hold millions. ProtocolError for a byte that begins no object.

        To be exhausted before the next call.
        """
        self._rest += data
        start = 0
        try:
            while (end := self._end()) is not None:
                yield bytes(memoryview(self._rest)[start:end])
                start = end
        finally:
            del self._rest[:start]
            self._at -= start

    def _end(self) -> int | None:
        """Return the end of the outermost object; None if it is incomplete."""
        while self._missing:
            size, contained = self._size()
            if not size or self._at + size > len(self._rest):
                return None
            self._at += size
            self._missing += contained - 1
        self._missing = 1
        return self._at

    def _size(self) -> tuple[int, int]:
        """Return the length of the next object, without the objects that it contains, and their number; 0 bytes if unknown yet."""
        if self._at >= len(self._rest):
            return 0, 0
        first = self._rest[self._at]
        if first < 0x80 or first >= 0xE0:
            return 1, 0
        if first < 0x90:
            return 1, 2 * (first & 0x0F)
        if first < 0xA0:
            return 1, first & 0x0F
        if first < 0xC0:
            return 1 + (first & 0x1F), 0
        if first in _FIXED:
            return _FIXED[first], 0
        return self._size_by_length(first)

    def _size_by_length(self, first: int) -> tuple[int, int]:
        width, each = _CONTAINERS.get(first, (_SIZED.get(first, 0) or _EXTENSIONS.get(first, 0), 0))
        if not width:
            raise ProtocolError(f"no MessagePack: no object begins with {first:#04x}")
        head = 1 + width
        if self._at + head > len(self._rest):
            return 0, 0
        count = int.from_bytes(self._rest[self._at + 1 : self._at + head], "big")
        if each:
            return head, count * each
        return head + count + (first in _EXTENSIONS), 0
