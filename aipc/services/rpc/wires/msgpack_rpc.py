"""MessagePack-RPC, exactly: https://github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md.

A MessagePack object knows its own end: so a channel's message may hold several, and over `framing=none` one may come in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from aipc.exceptions import MessageTooLarge, ProtocolError

from ...codecs import decoder
from ..errors import INVALID_REQUEST, RemoteError, from_wire
from .base import Answer, Event, Failure, Id, Invalid, Notification, Params, Request, Wire
from .msgpack_scanner import Scanner

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
_EMPTY = Raw(b"\x90")
_NIL = b"\xc0"


class _Request(Struct, array_like=True, tag=0, gc=False):
    id: int
    method: str
    params: Raw


class _Answer(Struct, array_like=True, tag=1, gc=False):
    id: int
    error: Raw
    result: Raw


class _Notification(Struct, array_like=True, tag=2, gc=False):
    method: str
    params: Raw


_message = msgspec.msgpack.Decoder(_Request | _Answer | _Notification)
_any = msgspec.msgpack.Decoder()
_encode = msgspec.msgpack.Encoder().encode


class MessagePackWire(Wire):
    """MessagePack objects, one after another, independent of the channel's messages. `limit`: the most bytes of one object."""

    codec = "msgpack"

    def __init__(self, limit: int = MAX_MESSAGE_SIZE) -> None:
        self._limit = limit
        self._scanner = Scanner()

    def feed(self, data: bytes) -> Iterable[Event]:
        if not self._scanner.waiting:
            try:
                return (_event(_message.decode(data)),)
            except Failure:
                pass  # several objects, a piece of one, or no message
        return self._feed_pieces(data)

    def _feed_pieces(self, data: bytes) -> Iterator[Event]:
        yield from map(_checked, self._scanner.split(data))
        if self._scanner.waiting > self._limit:
            raise MessageTooLarge(f"a MessagePack object of more than {self._limit:,} bytes")

    def end(self) -> None:
        if self._scanner.waiting:
            raise ProtocolError(f"the stream ends within a MessagePack object, after {self._scanner.waiting:,} bytes of it")

    def request(self, id: Id, method: str, params: Any) -> bytes:
        return _encode((0, id, method, params))

    def notification(self, method: str, params: Any) -> bytes:
        return _encode((2, method, params))

    def answer(self, id: Id, result: Any) -> bytes:
        return _encode((1, id, None, result))

    def error(self, id: Id, error: RemoteError) -> bytes:
        return _encode((1, id, {"code": error.code, "message": error.message, "data": error.data}, None))

    def batch(self, answers: list[bytes]) -> bytes:
        return b"".join(answers)

    def decode(self, raw: Params, type: Any) -> Any:
        return decoder("msgpack", type).decode(_EMPTY if raw is None else raw)

    def is_named(self, params: Params) -> bool:
        if params is None:
            return False
        first = memoryview(params)[0]
        return 0x80 <= first <= 0x8F or first in {0xDE, 0xDF}


def _event(message: _Request | _Answer | _Notification) -> Event:
    if type(message) is _Request:
        return Request(message.id, message.method, message.params)
    if type(message) is _Answer:
        if bytes(memoryview(message.error)[:1]) == _NIL:
            return Answer(message.id, message.result, None)
        return Answer(message.id, None, from_wire(_any.decode(message.error)))
    assert type(message) is _Notification
    return Notification(message.method, message.params)


def _checked(data: bytes) -> Event:
    try:
        return _event(_message.decode(data))
    except Failure as error:
        return _invalid(data, error)


def _invalid(data: bytes, error: Exception) -> Invalid:
    """Report an invalid message. A request with an id can be answered."""
    try:
        content = _any.decode(data)
    except Failure as malformed:
        raise ProtocolError(f"no MessagePack: {malformed}") from malformed
    if isinstance(content, list) and len(content) > 1 and content[0] == 0 and type(content[1]) is int:
        return Invalid(content[1], RemoteError(INVALID_REQUEST, f"Invalid Request: {error}"))
    raise ProtocolError(f"no message of MessagePack-RPC: {error}") from error
