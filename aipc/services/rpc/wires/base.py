"""The common interface of both wires: bytes in, events out. No I/O.

A request always has an id; a call without one is a notification, which has no answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ..errors import RemoteError

Id = int | float | str | None
Params = msgspec.Raw | None
Failure: tuple[type[Exception], ...] = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors of a decoder for bytes that do not fit."""


class Request(NamedTuple):
    """A call that needs an answer."""

    id: Id
    method: str
    params: Params


class Notification(NamedTuple):
    """A call without an answer."""

    method: str
    params: Params


class Answer(NamedTuple):
    """The answer to the call of that id: a result, or an error."""

    id: Id
    result: Params
    error: RemoteError | None


class Invalid(NamedTuple):
    """An invalid message, and the error to answer."""

    id: Id
    error: RemoteError


class Batch(NamedTuple):
    """Several calls in one message, whose answers also go in one message (JSON-RPC only)."""

    calls: list[Request | Notification | Invalid]


Event = Request | Notification | Answer | Invalid | Batch


class Wire(ABC):
    """One connection's protocol. Stateless, except for the start of an incomplete MessagePack object."""

    codec: str

    @abstractmethod
    def feed(self, data: bytes) -> Iterable[Event]:
        """Return the events of a received message. Exhaust it before the next call.

        ProtocolError, MessageTooLarge, also during the iteration: the connection cannot be used from here on.
        """

    @abstractmethod
    def end(self) -> None:
        """Note the end of the stream. ProtocolError in the middle of a message."""

    @abstractmethod
    def request(self, id: Id, method: str, params: Any) -> bytes:
        """Encode a call. `params` is a sequence, or a mapping of names. TypeError for a value that the codec cannot write."""

    @abstractmethod
    def notification(self, method: str, params: Any) -> bytes:
        """Encode a call without an answer."""

    @abstractmethod
    def answer(self, id: Id, result: Any) -> bytes:
        """Encode the answer to a call."""

    @abstractmethod
    def error(self, id: Id, error: RemoteError) -> bytes:
        """Encode the answer to a failed call."""

    @abstractmethod
    def batch(self, answers: list[bytes]) -> bytes:
        """Encode the answers to a batch, in one message."""

    @abstractmethod
    def decode(self, raw: Params, type: Any) -> Any:
        """Convert a value to that type. One of `Failure` if it does not fit."""

    @abstractmethod
    def is_named(self, params: Params) -> bool:
        """Whether parameters are a map of names."""
