"""A publisher over sockets: it filters before it sends, and has a queue for each subscriber."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel

from aipc._opening.openers import listen
from aipc.abc import Buffer, Channel, Listener

from .frames import OVERHEAD
from .matching import Members, matcher
from .outbox import Outbox
from .publisher import GONE, ListeningPublisher

_BETWEEN_TURNS = 32
"""The most messages published without a turn of the loop: subscribers' tasks need turns."""


class StreamPublisher(ListeningPublisher):
    """A full queue drops the oldest or the newest message, or disconnects its subscriber, or makes `publish` wait (`overflow`)."""

    def __init__(self, listener: Listener, url: str, *, queue: int, overflow: str, limit: int) -> None:
        super().__init__(listener, url, limit)
        self._queue = queue
        self._overflow = overflow
        self._members: Members[Outbox] = Members()
        self._turn = _BETWEEN_TURNS

    async def publish(self, topic: str, data: Buffer) -> None:
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
        name, content = self._checked(topic, data)
        if self._overflow == "block" and self._first_full(topic) is not None:
            raise anyio.WouldBlock("a subscriber's queue is full; await publish() waits for it")
        self._put(topic, name, content)

    def _first_full(self, topic: str) -> Outbox | None:
        return next((outbox for outbox in self._members.of(topic) if outbox.full), None)

    def _put(self, topic: str, name: bytes, content: bytes) -> None:
        for outbox in self._members.of(topic):
            outbox.put(name, content)

    async def flush(self) -> None:
        for outbox in self._members.all():
            while not outbox.idle:
                await outbox.wait_emptied()

    def _close(self) -> None:
        """Do nothing: everything was released with its subscriber."""

    async def _serve_subscriber(self, channel: Channel, patterns: tuple[str, ...]) -> None:
        outbox = Outbox(self._queue, self._overflow)
        self._members.add(outbox, matcher(patterns))
        try:
            async with anyio.create_task_group() as tasks:
                for function in (self._feed, self._watch):
                    tasks.start_soon(function, channel, outbox)
                await outbox.over.wait()
                tasks.cancel_scope.cancel()
        finally:
            outbox.close()
            self._members.remove(outbox)

    async def _feed(self, channel: Channel, outbox: Outbox) -> None:
        with suppress(*GONE):
            while True:
                await channel.send_many(await outbox.take())
                outbox.sent()
        outbox.close()

    async def _watch(self, channel: Channel, outbox: Outbox) -> None:
        with suppress(*GONE):
            await channel.receive()  # a subscriber sends nothing more: this is its end, or a violation
        outbox.close()


async def publish_on(url: str, *, queue: int, overflow: str, max_message_size: int, **options: Any) -> StreamPublisher:
    """Listen at `url`, and publish to all clients."""
    listener = await listen(url, max_message_size=max_message_size, **options)
    return StreamPublisher(listener, url, queue=queue, overflow=overflow, limit=max(max_message_size - OVERHEAD, 0))
