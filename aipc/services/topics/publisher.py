"""The common base of publishers: a listener, and tasks that serve the subscribers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

from aipc._io import fork
from aipc._io.loop import backend
from aipc._texts.shown import Fact, counted, shown, usable
from aipc.abc import Buffer, Channel, Listener
from aipc.exceptions import MessageTooLarge
from aipc.wire.framing import as_bytes

from .frames import decode_request, encode_topic

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""The errors that report a peer's end."""
_REQUEST_SECONDS = 10.0
"""Seconds that a connection may stay without a request."""
_FLUSH_SECONDS = 1.0


class Publisher(ABC):
    """Publishes messages under topics. Each subscriber gets the messages whose topics match its patterns, in order.

    Any number of tasks may publish. A slow subscriber loses messages, and learns how many; over sockets `overflow` can change that.
    """

    @abstractmethod
    async def publish(self, topic: str, data: Buffer) -> None:
        """Publish a message to all subscribers that want its topic; with `overflow="block"`, wait until all have room.

        InvalidMessage, MessageTooLarge: for a topic or data over the limit, before anything is published. ClosedResourceError after
        `aclose`. Cancelled: published to all, or to none.
        """

    @abstractmethod
    def publish_nowait(self, topic: str, data: Buffer) -> None:
        """`publish` without waiting. WouldBlock: nothing was published."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until all messages are on their way to the present subscribers. Cancelled: nothing happened."""

    @property
    @abstractmethod
    def subscribers(self) -> int:
        """The present number."""

    @abstractmethod
    async def wait_subscribers(self, count: int = 1) -> None:
        """Wait until there are that many. Cancelled: nothing happened."""

    @abstractmethod
    async def aclose(self) -> None:
        """Send what is queued, for a second at most, and close. Idempotent. Cancelled: it closes all the same."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ListeningPublisher(Publisher):
    """A publisher that subscribers connect to."""

    def __init__(self, listener: Listener, url: str, limit: int) -> None:
        self._listener = listener
        self._url = url
        self._limit = limit
        self._subscribers = 0
        self._changed: anyio.Event = anyio.Event()
        self._generation = fork.generation
        self._scope = anyio.CancelScope()
        self._closed = False
        self._ended = anyio.Event()
        backend.start_soon(self._run)

    @abstractmethod
    async def _serve_subscriber(self, channel: Channel, patterns: tuple[str, ...]) -> None:
        """Serve one subscriber, until it leaves."""

    @abstractmethod
    def _close(self) -> None:
        """Release everything else, once no subscriber is served."""

    @property
    def subscribers(self) -> int:
        """The present number of subscribers."""
        return self._subscribers

    async def wait_subscribers(self, count: int = 1) -> None:
        """Wait until there are `count` subscribers. Cancelled: nothing happened."""
        while self._subscribers < count:
            self._check()
            await self._changed.wait()

    def _checked(self, topic: str, data: Buffer) -> tuple[bytes, bytes]:
        self._check()
        name, content = encode_topic(topic), bytes(as_bytes(data))
        if len(name) + len(content) > self._limit:
            raise MessageTooLarge(
                f"{self._url}: {len(content):,} bytes of data and {len(name):,} of topic; together at most {self._limit:,}"
            )
        return name, content

    def _check(self) -> None:
        fork.check(self._generation, self._url)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._url}: closed")

    async def _run(self) -> None:
        try:
            with self._scope, suppress(*GONE):
                await self._listener.serve(self._serve)
        finally:
            self._ended.set()

    async def _serve(self, channel: Channel) -> None:
        with anyio.move_on_after(_REQUEST_SECONDS) as patience:
            patterns = decode_request(await channel.receive())
        if patience.cancelled_caught:
            return
        self._count(1)
        try:
            await self._serve_subscriber(channel, patterns)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._subscribers += change
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def aclose(self) -> None:
        """Send what is queued, for at most a second, and close. Idempotent. Cancelled: it is closed all the same."""
        if self._generation != fork.generation:
            return
        try:
            if not self._closed:
                with anyio.move_on_after(_FLUSH_SECONDS):
                    await self.flush()
        finally:
            self._closed = True
            self._scope.cancel()
            self._count(0)
            await self._listener.aclose()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            self._close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._url
        yield usable(self._closed, self._generation)
        yield counted(self._subscribers, "subscriber") or "no subscriber"
