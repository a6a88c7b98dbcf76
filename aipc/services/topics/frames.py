"""What publishers and subscribers say to each other, as messages of a channel. No I/O.

A subscriber says once what it wants: a byte 1, the version, and its patterns, each behind its length (two bytes, big-endian). The
publisher answers with a count, and sends messages from then on:

    count      0, number (8 bytes)
    message    1, number (8 bytes), the topic's length (2 bytes), topic, data

Numbers are big-endian. A message's number counts the messages that this subscriber should have had on this connection, from 1 on;
a count tells how many those are by now, where that is not told by a message. So a gap between numbers is what was lost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aipc.exceptions import InvalidMessage, ProtocolError

VERSION = 1
MOST_PATTERNS, LONGEST_REQUEST = 1_000, 65_536
LONGEST_TOPIC = 65_535
_COUNT, _MESSAGE = 0, 1
_HEAD = struct.Struct(">BQ")
_TOPIC = struct.Struct(">BQH")
_LENGTH = struct.Struct(">H")
_COUNTED = struct.Struct(">QH")
_PIECE = 32_768
OVERHEAD = _TOPIC.size
"""Bytes of a message besides topic and data."""


class Frame(NamedTuple):
    """A count (`topic` is None), or a message."""

    number: int
    topic: str | None = None
    data: bytes = b""


def encode_topic(topic: str) -> bytes:
    """A topic's bytes. InvalidMessage if it is too long."""
    encoded = topic.encode(errors="surrogateescape")
    if len(encoded) > LONGEST_TOPIC:
        raise InvalidMessage(f"a topic of {len(encoded):,} bytes; the limit is {LONGEST_TOPIC:,}")
    return encoded


def encode_request(patterns: Sequence[str]) -> bytes:
    """What a subscriber says first. InvalidMessage for more patterns than a publisher takes."""
    encoded = [encode_topic(pattern) for pattern in patterns]
    request = bytes([VERSION]) + b"".join(_LENGTH.pack(len(pattern)) + pattern for pattern in encoded)
    if len(patterns) > MOST_PATTERNS or len(request) > LONGEST_REQUEST:
        raise InvalidMessage(f"a subscriber has at most {MOST_PATTERNS:,} patterns, of {LONGEST_REQUEST:,} bytes together")
    return request


def decode_request(request: bytes) -> tuple[str, ...]:
    """A subscriber's patterns. ProtocolError."""
    if not request or request[0] != VERSION or len(request) > LONGEST_REQUEST:
        raise ProtocolError(f"no request of a subscriber: {request[:20]!r}…")
    patterns: list[str] = []
    at = 1
    while at < len(request):
        start = at + _LENGTH.size
        length = int.from_bytes(request[at:start])
        at = start + length
        if start > len(request) or at > len(request) or len(patterns) == MOST_PATTERNS:
            raise ProtocolError("a subscriber's request is cut short, or has too many patterns")
        patterns.append(_text(request[start:at]))
    return tuple(patterns)


def encode_count(number: int) -> bytes:
    """A count's bytes."""
    return _HEAD.pack(_COUNT, number)


def encode_message(number: int, topic: bytes, data: bytes) -> bytes:
    """A message's bytes."""
    return b"".join((_TOPIC.pack(_MESSAGE, number, len(topic)), topic, data))


def decode(frame: bytes) -> Frame:
    """A count or a message. ProtocolError."""
    try:
        kind, number = _HEAD.unpack_from(frame)
        if kind == _COUNT and len(frame) == _HEAD.size:
            return Frame(number)
        kind, number, length = _TOPIC.unpack_from(frame)
    except struct.error:
        kind, length = -1, 0
    start = _TOPIC.size + length
    if kind != _MESSAGE or start > len(frame):
        raise ProtocolError(f"no message of a publisher: {frame[:20]!r}…")
    return Frame(number, _text(frame[_TOPIC.size : start]), frame[start:])


def encode_counts(counts: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
    """How many messages topics have had, in pieces of some 32 KiB."""
    piece = bytearray()
    for topic, count in counts:
        piece += _COUNTED.pack(count, len(topic)) + topic
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def decode_counts(piece: bytes) -> Iterator[tuple[bytes, int]]:
    """The same, of one piece. ProtocolError."""
    at = 0
    while at < len(piece):
        start = at + _COUNTED.size
        if start > len(piece):
            raise ProtocolError("a publisher's counts are cut short")
        count, length = _COUNTED.unpack_from(piece, at)
        at = start + length
        if at > len(piece):
            raise ProtocolError("a publisher's counts are cut short")
        yield piece[start:at], count


def _text(encoded: bytes) -> str:
    return encoded.decode(errors="surrogateescape")
