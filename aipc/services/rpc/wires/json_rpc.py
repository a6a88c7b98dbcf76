"""JSON-RPC 2.0, exactly: https://www.jsonrpc.org/specification."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...codecs import decoder
from ..errors import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, RemoteError, from_wire
from .base import Answer, Batch, Event, Failure, Id, Invalid, Notification, Params, Request, Wire

MAX_BATCH_SIZE = 1024 * 1024
"""Bytes: the calls of a batch take up to fifty times as much memory as in the message."""
_SPACE = b" \t\r\n"
_EMPTY = Raw(b"[]")


class _Message(Struct, gc=False):
    jsonrpc: Literal["2.0"]
    id: int | float | str | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _HasId(Struct):
    id: int | float | str | None = None


class _Error(Struct, omit_defaults=True):
    code: int
    message: str
    data: Any = None


class _Call(Struct):
    method: str
    params: Any
    jsonrpc: str = "2.0"


class _Request(_Call):
    id: Id = None


class _Answer(Struct, kw_only=True):
    jsonrpc: str = "2.0"
    result: Any
    id: Id


class _Failed(Struct, kw_only=True):
    jsonrpc: str = "2.0"
    error: _Error
    id: Id


_message = msgspec.json.Decoder(_Message)
_items = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


class JsonWire(Wire):
    """One JSON value in each message."""

    codec = "json"

    def feed(self, data: bytes) -> list[Event]:
        if data[:1] == b"{":
            return [_event(data)]
        stripped = data.strip(_SPACE)
        if stripped[:1] != b"[":
            return [_event(data)]
        return _batch(stripped)

    def end(self) -> None:
        """Nothing is left between messages."""

    def request(self, id: Id, method: str, params: Any) -> bytes:
        return _encode(_Request(method, params, id=id))

    def notification(self, method: str, params: Any) -> bytes:
        return _encode(_Call(method, params))

    def answer(self, id: Id, result: Any) -> bytes:
        return _encode(_Answer(result=result, id=id))

    def error(self, id: Id, error: RemoteError) -> bytes:
        return _encode(_Failed(error=_Error(error.code, error.message, error.data), id=id))

    def batch(self, answers: list[bytes]) -> bytes:
        return b"[" + b",".join(answers) + b"]"

    def decode(self, raw: Params, type: Any) -> Any:
        return decoder("json", type).decode(_EMPTY if raw is None else raw)

    def is_named(self, params: Params) -> bool:
        return params is not None and bytes(memoryview(params)[:1]) == b"{"


def _event(data: bytes | Raw) -> Request | Notification | Answer | Invalid:
    try:
        message = _message.decode(data)
    except Failure as error:
        return _invalid(data, error)
    params = None if message.params is UNSET else message.params
    if message.method is UNSET:
        return _answer(message, data)
    if params is not None and bytes(memoryview(params)[:1]) not in {b"[", b"{"}:
        return _invalid(data, "params must be an array or an object")
    if message.id is UNSET:
        return Notification(message.method, params)
    return Request(message.id, message.method, params)


def _answer(message: _Message, data: bytes | Raw) -> Answer | Invalid:
    id = None if message.id is UNSET else message.id
    if message.error is not UNSET:
        try:
            return Answer(id, None, from_wire(msgspec.json.decode(message.error)))
        except Failure as error:
            return Answer(id, None, RemoteError(INTERNAL_ERROR, f"the error can't be read: {error}"))
    if message.result is not UNSET:
        return Answer(id, message.result, None)
    return _invalid(data, "neither a method, nor a result, nor an error")


def _invalid(data: bytes | Raw, error: object) -> Invalid:
    """Report an invalid message, with its id if it has one, and whether it is JSON."""
    try:
        msgspec.json.decode(data)
    except Failure as parse_error:
        return Invalid(None, RemoteError(PARSE_ERROR, f"Parse error: {parse_error}"))
    try:
        id = msgspec.json.decode(data, type=_HasId).id
    except Failure:
        id = None
    return Invalid(id, RemoteError(INVALID_REQUEST, f"Invalid Request: {error}"))


def _batch(data: bytes) -> list[Event]:
    if len(data) > MAX_BATCH_SIZE:
        return [Invalid(None, RemoteError(INVALID_REQUEST, f"Invalid Request: a batch of more than {MAX_BATCH_SIZE:,} bytes"))]
    try:
        items = _items.decode(data)
    except Failure as error:
        return [Invalid(None, RemoteError(PARSE_ERROR, f"Parse error: {error}"))]
    if not items:
        return [Invalid(None, RemoteError(INVALID_REQUEST, "Invalid Request: an empty batch"))]
    events = [_event(item) for item in items]
    answers: list[Event] = [event for event in events if isinstance(event, Answer)]
    calls = [event for event in events if not isinstance(event, Answer)]
    return [*answers, Batch(calls)] if calls else answers
