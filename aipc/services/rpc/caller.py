"""The caller for which a method runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from aipc.abc import Channel, ChannelAttribute, Credentials

from .client import Client
from .fds import close_all

_current: ContextVar[Caller] = ContextVar("aipc caller")


class Caller:
    """The call for which a method runs, and its caller.

    deadline    the time of its cancellation, by the clock of `anyio.current_time`; infinite if the caller set none
    """

    __slots__ = ("_answer_fds", "_client", "_fds", "_taken", "deadline")

    def __init__(self, client: Client, fds: Sequence[int] = ()) -> None:
        self._client = client
        self._fds = tuple(fds)
        self._taken = False
        self._answer_fds: list[int] = []
        self.deadline: float = math.inf

    @property
    def channel(self) -> Channel:
        """The connection."""
        return self._client.channel

    @property
    def credentials(self) -> Credentials | None:
        """The peer process, over Unix sockets and `shm:`."""
        return self.channel.extra(ChannelAttribute.peer_credentials, None)

    @property
    def client(self) -> Client:
        """A client for calls back over the same connection."""
        return self._client

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that came with the call: the method closes them. If it does not read this, they are closed at its end."""
        self._taken = True
        return self._fds

    def send_fds(self, fds: Iterable[int]) -> None:
        """Send descriptors with the answer (Unix sockets only). They are closed here once the answer is sent, or failed."""
        self._answer_fds += fds

    @property
    def answer_fds(self) -> Sequence[int]:
        """The descriptors for the answer."""
        return self._answer_fds

    def close(self) -> None:
        """Close the descriptors that the method did not take, and those of the answer."""
        if not self._taken:
            close_all(self.fds)
        close_all(self._answer_fds)
        self._answer_fds = []

    def enter(self) -> None:
        """Make this the call of the running task."""
        _current.set(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.channel!r}>"


def current_caller() -> Caller:
    """Return the call for which this task runs: credentials, descriptors, channel, deadline. RuntimeError outside of a method."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current_caller: this task runs no method for a caller") from None
