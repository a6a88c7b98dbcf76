"""What both wires have in common: bytes in, events out. No I/O here.

A request without an id does not exist: that is a notification, which has no answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from .errors import RemoteError

Id = int | float | str | None
Params = msgspec.Raw | None
Failure = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What a decoder raises about bytes that do not fit."""


class Request(NamedTuple):
    """A call that is to be answered."""

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
    """Something that is no message of this protocol, and the error to answer."""

    id: Id
    error: RemoteError


class Batch(NamedTuple):
    """Several calls in one message, whose answers go in one message, too (JSON-RPC only)."""

    calls: list[Request | Notification | Invalid]


Event = Request | Notification | Answer | Invalid | Batch


class Wire(ABC):
    """One connection's protocol. Stateless, but for the start of a message that MessagePack may have left."""

    codec: str

    @abstractmethod
    def feed(self, data: bytes) -> Iterable[Event]:
        """What a received message says. To be exhausted before the next call.

        ProtocolError, MessageTooLarge, also while it is iterated over: the connection can't be trusted from here on.
        """

    @abstractmethod
    def end(self) -> None:
        """The peer sends no more. ProtocolError if that is in the middle of a message."""

    @abstractmethod
    def request(self, id: Id, method: str, params: Any) -> bytes:
        """A call. `params` is a sequence, or a mapping of names. TypeError for what the codec can't write."""

    @abstractmethod
    def notification(self, method: str, params: Any) -> bytes:
        """A call without an answer."""

    @abstractmethod
    def answer(self, id: Id, result: Any) -> bytes:
        """The answer to a call."""

    @abstractmethod
    def error(self, id: Id, error: RemoteError) -> bytes:
        """The answer to a call that failed."""

    @abstractmethod
    def batch(self, answers: list[bytes]) -> bytes:
        """The answers to a batch, in one message."""

    @abstractmethod
    def decode(self, raw: Params, type: Any) -> Any:
        """A value of that type. One of `Failure` if it does not fit."""

    @abstractmethod
    def is_named(self, params: Params) -> bool:
        """Whether parameters are a map of names."""
