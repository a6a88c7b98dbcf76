"""A subscriber over a channel: it connects again by itself, and counts what it missed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio

from aipc._open import open_channel
from aipc.abc import Channel
from aipc.exceptions import AccessDenied, AddressError, CertificateRefused, ForkedError, ProtocolError, WrongObject

from .frames import Frame, decode, encode_request

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
_FOR_GOOD = (AccessDenied, AddressError, CertificateRefused, ForkedError, ProtocolError, WrongObject)
"""What no later try would change."""
_NOBODY_THERE = (OSError, anyio.BrokenResourceError, anyio.EndOfStream)


class TopicMessage(NamedTuple):
    """A published message.

    missed      how many messages for this subscriber were lost before it, as the publisher counts them
    resumed     whether it is the first one after a new connection: between the two, an unknown number may have been lost
    """

    topic: str
    data: bytes
    missed: int = 0
    resumed: bool = False


class Subscriber:
    """Receives the messages whose topics match. Any number of tasks may receive; each message goes to exactly one of them."""

    def __init__(self, url: str, patterns: tuple[str, ...], options: dict[str, Any]) -> None:
        self.missed: int = 0
        """Messages lost so far, on all connections."""
        self._url = url
        self._request = encode_request(patterns)
        self._options = options
        self._channel: Channel | None = None
        self._connecting = anyio.Lock()
        self._ready: deque[TopicMessage] = deque()
        self._number = 0
        self._lost = 0  # since the last message
        self._resumed = False
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._channel is not None

    async def receive(self) -> TopicMessage:
        """The next message. While there is no publisher, it waits for one.

        ProtocolError for what is no message: the connection is closed, and the next call makes another one. ClosedResourceError
        after `aclose`. Cancelled: nothing was consumed.
        """
        while not self._ready:
            self._check()
            channel = self._channel or await self._connected()
            try:
                frames = await channel.receive_many()
            except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
                self._check()
                await self._disconnect(channel)
                if isinstance(error, ProtocolError):
                    raise
            else:
                await self._accept(frames, channel)
        return self._ready.popleft()

    async def _accept(self, frames: list[bytes], channel: Channel) -> None:
        try:
            for frame in map(decode, frames):
                self._count(frame)
        except ProtocolError:
            await self._disconnect(channel)
            raise

    def _count(self, frame: Frame) -> None:
        before = self._number + (frame.topic is not None)
        if frame.number < before:
            raise ProtocolError(f"{self._url}: message {frame.number} came after {self._number}")
        self._lost += frame.number - before
        self.missed += frame.number - before
        self._number = frame.number
        if frame.topic is not None:
            self._ready.append(TopicMessage(frame.topic, frame.data, self._lost, self._resumed))
            self._lost, self._resumed = 0, False

    async def connect(self) -> None:
        """Connect if somebody is there, or leave that to `receive`. Errors that no later try would change are raised."""
        try:
            await self._open()
        except _FOR_GOOD:
            raise
        except _NOBODY_THERE:
            return

    async def _connected(self) -> Channel:
        async with self._connecting:
            pause = _FIRST_PAUSE
            while self._channel is None:
                self._check()
                await self.connect()
                if self._channel is None:
                    await anyio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - thousands must not come at once
                    pause = min(2 * pause, _LONGEST_PAUSE)
            return self._channel

    async def _open(self) -> None:
        channel = await open_channel(self._url, **self._options)
        try:
            await channel.send(self._request)
            first = decode(await channel.receive())
            if first.topic is not None:
                raise ProtocolError(f"{self._url}: a publisher's first message must be a count")
        except BaseException:
            await channel.aclose()
            raise
        self._channel, self._number = channel, first.number

    async def _disconnect(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel, self._resumed = None, True
        await channel.aclose()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._url}: closed")

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[TopicMessage]:
        return self.receive()

    async def aclose(self) -> None:
        """Close. Idempotent. Cancelled: it closes all the same."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Subscriber {self._url}>"


async def subscribe_to(url: str, patterns: tuple[str, ...], **options: Any) -> Subscriber:
    """Subscribe at `url`; whether or not a publisher is there yet."""
    subscriber = Subscriber(url, patterns, options)
    await subscriber.connect()
    return subscriber
