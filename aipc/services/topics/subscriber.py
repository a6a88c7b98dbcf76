"""The common base of subscribers: they reconnect by themselves, and report lost messages."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import anyio

from aipc._texts.shown import Fact, counted, shown
from aipc.exceptions import AccessDenied, AddressError, CertificateRefused, ForkedError, ProtocolError, WrongObject

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
_FOR_GOOD = (AccessDenied, AddressError, CertificateRefused, ForkedError, ProtocolError, WrongObject)
"""Errors that no later try would change."""
_NOBODY_THERE = (OSError, anyio.BrokenResourceError, anyio.EndOfStream)


class TopicMessage(NamedTuple):
    """A published message.

    missed      the number of messages for this subscriber that were lost before it and not reported yet
    resumed     whether it is the first one after a new connection: an unknown number may have been lost in between
    """

    topic: str
    data: bytes
    missed: int = 0
    resumed: bool = False


class Received(NamedTuple):
    """The result of a connection: a message, or only the number of lost ones (`topic` is None)."""

    topic: str | None
    data: bytes
    lost: int


class Connection(Protocol):
    """A connection to a publisher that has accepted the request."""

    async def read(self) -> Iterable[Received]:
        """Return what came, perhaps nothing. EndOfStream, BrokenResourceError: the publisher left. Cancelled: nothing was consumed."""

    async def aclose(self) -> None:
        """Close it."""


class Subscriber:
    """Receives the messages whose topics match. Any number of tasks may receive; each message goes to exactly one of them."""

    def __init__(self, url: str, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.missed: int = 0
        """Messages lost so far, on all connections."""
        self._url = url
        self._connect = connect
        self._connection: Connection | None = None
        self._connecting = anyio.Lock()
        self._ready: deque[TopicMessage] = deque()
        self._lost = 0  # since the last message
        self._resumed = False
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    async def receive(self) -> TopicMessage:
        """Return the next message. Without a publisher, it waits for one.

        ProtocolError for an invalid message: the connection is closed, and the next call makes a new one. ClosedResourceError
        after `aclose`. Cancelled: nothing was consumed.
        """
        while not self._ready:
            self._check()
            connection = self._connection or await self._connected()
            try:
                received = await connection.read()
            except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
                self._check()
                await self._disconnect(connection)
                if isinstance(error, ProtocolError):
                    raise
            else:
                self._accept(received)
        return self._ready.popleft()

    def _accept(self, received: Iterable[Received]) -> None:
        for topic, data, lost in received:
            if lost:
                self._lost += lost
                self.missed += lost
            if topic is not None:
                self._ready.append(TopicMessage(topic, data, self._lost, self._resumed))
                self._lost, self._resumed = 0, False

    async def connect(self) -> None:
        """Connect if there is a publisher, otherwise leave that to `receive`. Errors that no later try would change are raised."""
        try:
            self._connection = await self._connect()
        except _FOR_GOOD:
            raise
        except _NOBODY_THERE:
            return

    async def _connected(self) -> Connection:
        async with self._connecting:
            pause = _FIRST_PAUSE
            while self._connection is None:
                self._check()
                await self.connect()
                if self._connection is None:
                    await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - thousands must not connect at once
                    pause = min(2 * pause, _LONGEST_PAUSE)
            return self._connection

    async def _disconnect(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection, self._resumed = None, True
        await connection.aclose()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._url}: closed")

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[TopicMessage]:
        return self.receive()

    async def aclose(self) -> None:
        """Close. Idempotent. Cancelled: it is closed all the same."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._url
        yield "closed" if self._closed else "connected" if self.connected else "no publisher"
        yield counted(len(self._ready), "message") + " read ahead" if self._ready else ""
        yield f"{self.missed:,} missed" if self.missed else ""
