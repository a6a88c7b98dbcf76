"""A publisher over a listener: it filters before it sends, and has a queue for each subscriber."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from aipc._io import fork
from aipc._io.loop import backend
from aipc._open import listen
from aipc.abc import Buffer, Channel, Listener
from aipc.exceptions import MessageTooLarge
from aipc.wire.framing import as_bytes

from .frames import decode_request, encode_topic, overhead
from .matching import Members, matcher
from .outbox import Outbox

_BETWEEN_TURNS = 32
"""Messages published without a turn of the loop, at most: subscribers' tasks need turns."""
_REQUEST_SECONDS = 10.0
"""How long a connection may stay without saying what it wants."""
_FLUSH_SECONDS = 1.0
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Publisher:
    """Publishes messages under topics. Each subscriber gets those whose topics match its patterns, in order.

    `overflow` says what happens when a subscriber's queue is full: the oldest or the newest message is dropped, and the subscriber
    learns how many were; or it is disconnected; or `publish` waits for it. Any number of tasks may publish.
    """

    def __init__(self, listener: Listener, url: str, *, queue: int, overflow: str, max_message_size: int) -> None:
        self._listener = listener
        self._url = url
        self._queue = queue
        self._overflow = overflow
        self._limit = max_message_size
        self._members: Members[Outbox] = Members()
        self._changed: anyio.Event = anyio.Event()
        self._generation = fork.generation
        self._turn = _BETWEEN_TURNS
        self._scope = anyio.CancelScope()
        self._closed = False
        self._ended = anyio.Event()
        backend.start_soon(self._run)

    async def publish(self, topic: str, data: Buffer) -> None:
        """Queue a message for all subscribers that want its topic; with `overflow="block"`, wait until all have room.

        InvalidMessage, MessageTooLarge: for a topic or data over the limit, before anything is queued. ClosedResourceError after
        `aclose`. Cancelled: queued for all, or for none.
        """
        name, content = self._checked(topic, data)
        self._turn -= 1
        if self._turn <= 0:
            self._turn = _BETWEEN_TURNS
            await anyio.lowlevel.checkpoint()
        while self._overflow == "block":
            full = self._first_full(topic)
            if full is None:
                break
            await full.wait_emptied()
            self._check()
        self._put(topic, name, content)

    def publish_nowait(self, topic: str, data: Buffer) -> None:
        """`publish`, or WouldBlock, and then nothing was queued."""
        name, content = self._checked(topic, data)
        if self._overflow == "block" and self._first_full(topic) is not None:
            raise anyio.WouldBlock
        self._put(topic, name, content)

    def _checked(self, topic: str, data: Buffer) -> tuple[bytes, bytes]:
        self._check()
        name, content = encode_topic(topic), bytes(as_bytes(data))
        if overhead(name) + len(content) > self._limit:
            raise MessageTooLarge(
                f"{self._url}: a message of {len(content):,} bytes, and {overhead(name):,} for its topic; "
                f"max_message_size is {self._limit:,}"
            )
        return name, content

    def _check(self) -> None:
        fork.check(self._generation, self._url)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._url}: closed")

    def _first_full(self, topic: str) -> Outbox | None:
        return next((outbox for outbox in self._members.of(topic) if outbox.full), None)

    def _put(self, topic: str, name: bytes, content: bytes) -> None:
        for outbox in self._members.of(topic):
            outbox.put(name, content)

    @property
    def subscribers(self) -> int:
        """How many there are now."""
        return len(self._members)

    async def wait_subscribers(self, count: int = 1) -> None:
        """Wait until there are so many. Cancelled: nothing happened."""
        while len(self._members) < count:
            self._check()
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until everything queued is on its way to the subscribers that are there. Cancelled: nothing happened."""
        for outbox in self._members.all():
            while not outbox.idle:
                await outbox.wait_emptied()

    async def _run(self) -> None:
        try:
            with self._scope, suppress(*_GONE):
                await self._listener.serve(self._serve)
        finally:
            self._ended.set()

    async def _serve(self, channel: Channel) -> None:
        with anyio.move_on_after(_REQUEST_SECONDS) as patience:
            patterns = decode_request(await channel.receive())
        if patience.cancelled_caught:
            return
        outbox = Outbox(self._queue, self._overflow)
        self._members.add(outbox, matcher(patterns))
        self._tell()
        try:
            async with anyio.create_task_group() as tasks:
                for function in (self._feed, self._watch):
                    tasks.start_soon(function, channel, outbox)
                await outbox.over.wait()
                tasks.cancel_scope.cancel()
        finally:
            outbox.close()
            self._members.remove(outbox)
            self._tell()

    async def _feed(self, channel: Channel, outbox: Outbox) -> None:
        with suppress(*_GONE):
            while True:
                await channel.send_many(await outbox.take())
                outbox.sent()
        outbox.close()

    async def _watch(self, channel: Channel, outbox: Outbox) -> None:
        with suppress(*_GONE):
            await channel.receive()  # a subscriber says nothing more: this is its end, or an offence
        outbox.close()

    def _tell(self) -> None:
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def aclose(self) -> None:
        """Send what is queued, for a second at most, and close. Idempotent. Cancelled: it closes all the same."""
        if self._generation != fork.generation:
            return
        try:
            if not self._closed:
                with anyio.move_on_after(_FLUSH_SECONDS):
                    await self.flush()
        finally:
            self._closed = True
            self._scope.cancel()
            self._tell()
            for outbox in self._members.all():
                outbox.close()
            await self._listener.aclose()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Publisher {self._url}>"


async def publish_on(url: str, *, queue: int, overflow: str, max_message_size: int, **options: Any) -> Publisher:
    """Listen at `url`, and publish to all who connect."""
    listener = await listen(url, max_message_size=max_message_size, **options)
    return Publisher(listener, url, queue=queue, overflow=overflow, max_message_size=max_message_size)
