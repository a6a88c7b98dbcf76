"""Framing: how messages stand in a stream of bytes. No `await`, no system call, no state: one object serves many channels.

`encode` gives the bytes that stand for one message. `split` takes what was read, with the rest of what was read before, and
gives the messages that are complete; the new rest; and what is wrong with that, if the peer broke the rules: what came before
is still good, and nothing after is. For a long message whose length is known, `body` gives a buffer to read what is missing
into directly. At the end of the stream, `end` says what the rest means.

| framing | on the wire |
| --- | --- |
| `u32` | length, 4 bytes, big-endian; then the payload |
| `u32le` | length, 4 bytes, little-endian; then the payload |
| `u64` | length, 8 bytes, big-endian; then the payload |
| `lines` | the payload, then a line feed; the last line may lack it |
| `null` | the payload, then a zero byte; the last one may lack it |
| `fixed:N` | N bytes of payload |
| `none` | bytes as they come; a message is what one read gave |
"""

from __future__ import annotations

import io
import re
import struct
from abc import ABC, abstractmethod

from aipc._sys.native import native
from aipc.abc import Buffer
from aipc.exceptions import AddressError, InvalidMessage, MessageTooLarge, ProtocolError

Frame = bytes | tuple[Buffer, ...]
"""What stands for one message: in one piece, or in several, uncopied, if it is long."""

Rest = bytes | io.BytesIO
"""The start of a message. `split` writes on in a buffer, so that a long message in many reads is not copied at each of them."""

Split = tuple[list[bytes], Rest, Exception | None]
"""Whole messages, the rest, and what is wrong with the rest."""

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
LONG = 64 * 1024
"""Messages from this size on are received straight into their own buffer, and sent without a copy."""


def as_bytes(item: Buffer) -> Buffer:
    """`item` as something whose `len` is its number of bytes."""
    if isinstance(item, (bytes, bytearray)):
        return item
    try:
        view = memoryview(item)
    except TypeError:
        raise TypeError(f"a message is a bytes-like object, not {type(item).__name__}") from None
    return view.cast("B") if view.contiguous and view.nbytes else view.tobytes()


def joined(rest: Rest, data: bytes = b"") -> bytes:
    """A message's start, and what was read behind it."""
    if isinstance(rest, bytes):
        return rest + data if rest else data
    rest.write(data)
    return rest.getvalue()


def _longer(rest: Rest, data: bytes) -> tuple[Rest, int]:
    """The start of a message with what was read behind it, which does not end it; and its size. From `LONG` on in a buffer."""
    if isinstance(rest, bytes):
        rest = joined(rest, data)
        if len(rest) < LONG:
            return rest, len(rest)
        data, rest = rest, io.BytesIO()
    rest.write(data)
    return rest, rest.tell()


class Body:
    """A long message under way."""

    __slots__ = ("_buffer", "missing")

    def __init__(self, length: int, start: memoryview) -> None:
        # BytesIO adopts a bytes object that nobody else holds and hands it out again uncopied; its zeroed pages
        # cost no memory until they are written to, so that a peer that only announces much takes nothing.
        self._buffer = io.BytesIO(bytes(length))
        self._buffer.write(start)
        self.missing: int = length - len(start)

    @property
    def space(self) -> memoryview:
        """Where the missing bytes go. Release it before `message`."""
        return self._buffer.getbuffer()[-self.missing :]

    def message(self) -> bytes:
        """The whole message, when nothing is missing."""
        return self._buffer.getvalue()


class Framing(ABC):
    """One way to put messages into a stream; `limit` is the longest message, in bytes."""

    kind: int = 0
    """Of the length before each message: its bytes, negative if the first one is the lowest; 0: there is none."""
    is_plain: bool = False
    """Whether a message is itself its frame, so that there is no frame to make or to find."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit: int = limit

    def encode(self, item: Buffer) -> Frame:
        """The bytes that stand for `item`. MessageTooLarge, InvalidMessage: before anything is sent."""
        if type(item) is not bytes:
            item = as_bytes(item)
        size = len(item)
        if size > self.limit:
            raise MessageTooLarge(f"a message of {size:,} bytes; max_message_size is {self.limit:,}")
        pieces = self._wrap(item)
        return b"".join(pieces) if size < LONG else pieces

    def join(self, items: list[Buffer], first: int, most: int) -> tuple[bytes, int]:
        """The frames of `items[first:next]` in one piece, some `most` bytes if there are so many, made in C; and `next`.

        It ends before an item that is not a short `bytes`: that needs `encode`. Without C, at once.
        """
        return b"", first

    @abstractmethod
    def _wrap(self, item: Buffer) -> tuple[Buffer, ...]:
        """`item`, within the limit, with what goes before and behind it."""

    @abstractmethod
    def split(self, data: bytes, rest: Rest = b"") -> Split:
        """The messages that stand in `rest` and `data` behind it, the new rest, and what is wrong with it."""

    def body(self, rest: Rest) -> Body | None:
        """A buffer for the message that `rest` begins, if it is a long one of a known length."""
        return None

    def end(self, rest: Rest) -> Split:
        """The stream ended after `rest`: perhaps a last message, perhaps the middle of one."""
        return [], rest, cut_short(f"{len(joined(rest)):,} bytes of it") if rest else None


def cut_short(got: str) -> ProtocolError:
    """The error for a stream that ended within a message."""
    return ProtocolError(f"the peer closed in the middle of a message, after {got}")


class LengthPrefixed(Framing):
    """A length, then so many bytes."""

    __slots__ = ("_header", "_pack", "_short", "_unpack", "kind")

    def __init__(self, length: struct.Struct, limit: int) -> None:
        super().__init__(limit)
        self.kind: int = -length.size if length.format[0] == "<" else length.size
        self._header = length.size
        self._pack = length.pack
        self._unpack = length.unpack_from
        self._short = min(LONG, limit + 1)

    def encode(self, item: Buffer) -> Frame:
        if type(item) is not bytes:
            item = as_bytes(item)
        size = len(item)
        if size < self._short:
            return self._pack(size) + item
        return super().encode(item)

    def join(self, items: list[Buffer], first: int, most: int) -> tuple[bytes, int]:
        if native is None:
            return b"", first
        frames: tuple[bytes, int] = native.join(items, first, self.kind, self._short - 1, most)
        return frames

    def _wrap(self, item: Buffer) -> tuple[Buffer, ...]:
        return self._pack(len(item)), item

    def split(self, data: bytes, rest: Rest = b"") -> Split:
        if rest:
            data = joined(rest, data)
        header = self._header
        last = len(data) - header
        if last >= 0 and self._unpack(data)[0] == last <= self.limit:
            return [data[header:]], b"", None  # one message and no more: what a ping-pong sees
        if native is None:
            return self._split_many(data)
        messages, position, length = native.split(data, self.kind, self.limit)
        return messages, data[position:], None if length < 0 else self._too_long(length)

    def _split_many(self, data: bytes) -> Split:
        header, unpack, limit = self._header, self._unpack, self.limit
        position, size = 0, len(data)
        last = size - header
        messages: list[bytes] = []
        while position <= last:
            (length,) = unpack(data, position)
            end = position + header + length
            if length > limit:
                return messages, data[position:], self._too_long(length)
            if end > size:
                break
            messages.append(data[position + header : end])
            position = end
        return messages, data[position:], None

    def _too_long(self, length: int) -> MessageTooLarge:
        return MessageTooLarge(f"the peer announced {length:,} bytes; max_message_size is {self.limit:,}")

    def body(self, rest: Rest) -> Body | None:
        rest = joined(rest)
        if len(rest) < self._header:
            return None
        (length,) = self._unpack(rest)
        return Body(length, memoryview(rest)[self._header :]) if LONG <= length <= self.limit else None


class Delimited(Framing):
    """Messages that end with a byte which they can't contain."""

    __slots__ = ("_delimiter",)

    def __init__(self, delimiter: bytes, limit: int) -> None:
        super().__init__(limit)
        self._delimiter = delimiter

    def _wrap(self, item: Buffer) -> tuple[Buffer, ...]:
        if self._delimiter in bytes(item):
            raise InvalidMessage(f"the message contains {self._delimiter!r}, which ends a message in this framing")
        return item, self._delimiter

    def split(self, data: bytes, rest: Rest = b"") -> Split:
        messages = data.split(self._delimiter)
        if len(messages) == 1:
            rest, size = _longer(rest, data)
            return ([], rest, None) if size <= self.limit else ([], b"", self._too_long())
        messages[0] = joined(rest, messages[0])
        for index, message in enumerate(messages):
            if len(message) > self.limit:
                return messages[:index], b"", self._too_long()
        last = messages.pop()
        return messages, last, None

    def _too_long(self) -> MessageTooLarge:
        return MessageTooLarge(f"no {self._delimiter!r} within max_message_size, {self.limit:,} bytes")

    def end(self, rest: Rest) -> Split:
        return [joined(rest)] if rest else [], b"", None


class Fixed(Framing):
    """Messages of one size."""

    __slots__ = ("_size",)

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(limit)
        self._size = size

    def _wrap(self, item: Buffer) -> tuple[Buffer, ...]:
        if len(item) != self._size:
            raise InvalidMessage(f"a message of {len(item):,} bytes; framing=fixed:{self._size} takes {self._size:,}")
        return (item,)

    def split(self, data: bytes, rest: Rest = b"") -> Split:
        if rest:
            data = joined(rest, data)
        whole = len(data) - len(data) % self._size
        return [data[start : start + self._size] for start in range(0, whole, self._size)], data[whole:], None

    def body(self, rest: Rest) -> Body | None:
        return Body(self._size, memoryview(joined(rest))) if rest and self._size >= LONG else None


class Raw(Framing):
    """No framing: an empty message is nothing, and what is sent may arrive in other pieces."""

    is_plain = True

    __slots__ = ()

    def _wrap(self, item: Buffer) -> tuple[Buffer, ...]:
        return (item,)

    def split(self, data: bytes, rest: Rest = b"") -> Split:
        return [data], b"", None


_LENGTHS = {"u32": struct.Struct(">I"), "u32le": struct.Struct("<I"), "u64": struct.Struct(">Q")}
_DELIMITERS = {"lines": b"\n", "null": b"\0"}


def framing(name: str, max_message_size: int = MAX_MESSAGE_SIZE) -> Framing:
    """The framing of that name. AddressError if there is none."""
    if name in _LENGTHS:
        return LengthPrefixed(_LENGTHS[name], min(max_message_size, (1 << 8 * _LENGTHS[name].size) - 1))
    if name in _DELIMITERS:
        return Delimited(_DELIMITERS[name], max_message_size)
    if name == "none":
        return Raw(max_message_size)
    kind, _, size = name.partition(":")
    if kind == "fixed" and re.fullmatch("[0-9]{1,18}", size) and 0 < int(size) <= max_message_size:
        return Fixed(int(size), max_message_size)
    names = ", ".join([*_LENGTHS, *_DELIMITERS, "none"])
    raise AddressError(f"framing={name!r}: must be one of {names}, or fixed:N with N from 1 to max_message_size")
