"""The protocol between publishers and subscribers, as messages of a channel. No I/O.

A subscriber first sends one request: a byte 1, the version, and its patterns, each after its length (two bytes, big-endian). The
publisher answers with a count, and then sends messages:

    count      0, number (8 bytes)
    message    1, number (8 bytes), the topic's length (2 bytes), topic, data

Numbers are big-endian. A message's number counts the messages for this subscriber on this connection, from 1 on. A count gives that
number where no message does. So a gap between numbers is the number of lost messages.
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
"""Bytes of a message beside topic and data."""


class Frame(NamedTuple):
    """A count (`topic` is None), or a message."""

    number: int
    topic: str | None = None
    data: bytes = b""


def encode_topic(topic: str) -> bytes:
    """Return a topic's bytes. InvalidMessage if it is too long."""
    encoded = topic.encode(errors="surrogateescape")
    if len(encoded) > LONGEST_TOPIC:
        raise InvalidMessage(f"a topic of {len(encoded):,} bytes; the limit is {LONGEST_TOPIC:,}")
    return encoded


def encode_request(patterns: Sequence[str]) -> bytes:
    """Return a subscriber's request. InvalidMessage for more patterns than a publisher takes."""
    encoded = [encode_topic(pattern) for pattern in patterns]
    request = bytes([VERSION]) + b"".join(_LENGTH.pack(len(pattern)) + pattern for pattern in encoded)
    if len(patterns) > MOST_PATTERNS or len(request) > LONGEST_REQUEST:
        raise InvalidMessage(f"a subscriber has at most {MOST_PATTERNS:,} patterns, of {LONGEST_REQUEST:,} bytes together")
    return request


def decode_request(request: bytes) -> tuple[str, ...]:
    """Return a subscriber's patterns. ProtocolError if the request is invalid."""
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
    """Return a count's bytes."""
    return _HEAD.pack(_COUNT, number)


def encode_message(number: int, topic: bytes, data: bytes) -> bytes:
    """Return a message's bytes."""
    return b"".join((_TOPIC.pack(_MESSAGE, number, len(topic)), topic, data))


def decode(frame: bytes) -> Frame:
    """Return a count or a message. ProtocolError if it is invalid."""
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
    """Return the numbers of messages of topics, in pieces of some 32 KiB."""
    piece = bytearray()
    for topic, count in counts:
        piece += _COUNTED.pack(count, len(topic)) + topic
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def decode_counts(piece: bytes) -> Iterator[tuple[bytes, int]]:
    """Return the numbers in one piece. ProtocolError if it is invalid."""
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
