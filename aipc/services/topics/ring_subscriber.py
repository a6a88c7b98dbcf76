"""A subscriber's connection to a ring in shared memory, which it can only read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

import anyio

from aipc._io.handle import Handle
from aipc._io.loop import backend
from aipc._io.polling import Polling
from aipc._opening.openers import open_channel
from aipc._sys import membarrier, memfd
from aipc.abc import Channel
from aipc.exceptions import ProtocolError
from aipc.wire.broadcast import PAGE, Reader, Record, is_capacity

from .frames import decode_counts, encode_request
from .matching import matcher
from .publisher import GONE
from .ring_publisher import doorbell_name
from .subscriber import Received, Subscriber

_MOST_NAMES = 1024
_SHORTEST_PAUSE = 2e-3


class _RingPolling(Polling):
    """The publisher calls waiters, so short pauses would only take processor time from it."""

    __slots__ = ()

    def _next_pause(self) -> float:
        return max(super()._next_pause(), _SHORTEST_PAUSE)


class _Ring(Handle):
    """Owns the memory, and waits for it to change; `gone` once the publisher has left."""

    __slots__ = ("gone", "polling", "reader")

    def __init__(self, fd: int, position: int, name: str) -> None:
        super().__init__(name)
        size = memfd.check(fd)
        if not is_capacity(size - PAGE):
            raise ProtocolError(f"{name}: memory of {size:,} bytes holds no ring of topics")
        memory = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
        self.gone: bool = False
        self.reader: Reader = Reader(memory, position, membarrier.Barriers().fence)
        self.polling: Polling = _RingPolling(self, self._available, doorbell_name(os.fstat(fd)), probes=8)

    def _available(self) -> bool:
        return self.gone or self.reader.behind

    def read(self) -> list[Record]:
        """Return the next messages; none if the reader was overtaken. BlockingIOError: none now. EndOfStream: none any more."""
        self.check()
        if not self.reader.behind:
            if self.gone:
                raise anyio.EndOfStream(f"{self.name}: the publisher has closed")
            raise BlockingIOError
        return self.reader.read()

    def _close(self) -> None:
        self.polling.close()
        self.reader.close()


class RingConnection:
    """Counts lost messages: by their numbers if all topics are wanted, otherwise by each topic's own count."""

    def __init__(
        self, channel: Channel, ring: _Ring, wants: Callable[[str], object] | None, number: int, counts: dict[bytes, int]
    ) -> None:
        self._channel = channel
        self._ring = ring
        self._wants = wants
        self._number = number
        self._counts = counts  # of the wanted topics, unless all are wanted
        self._names: dict[bytes, str] = {}
        self._unwanted: set[bytes] = set()
        backend.start_soon(self._watch)

    async def _watch(self) -> None:
        try:
            await self._channel.receive()
        except GONE:
            pass
        finally:
            self._ring.gone = True
            self._ring.polling.wake_all()

    async def read(self) -> list[Received]:
        """Return the messages that have come. Cancelled: nothing was consumed."""
        received = []
        for record in await self._ring.polling.attempt(self._ring.read):
            if record.topic in self._unwanted:
                continue
            name = self._names.get(record.topic)
            if name is None:
                name = self._name(record.topic)
            if name is not None:
                received.append(Received(name, record.data, self._lost(record)))
        return received

    def _lost(self, record: Record) -> int:
        if self._wants is None:
            lost = record.number - self._number - 1
            self._number = record.number
        else:
            lost = record.of_topic - self._counts.get(record.topic, 0) - 1
            self._counts[record.topic] = record.of_topic
        if lost < 0:
            raise ProtocolError(f"{self._ring.name}: message {record.number} came late")
        return lost

    def _name(self, topic: bytes) -> str | None:
        """The topic's name, if it is wanted."""
        name = topic.decode(errors="surrogateescape")
        if self._wants is None or self._wants(name):
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[topic] = name
            return name
        if len(self._unwanted) >= _MOST_NAMES:
            self._unwanted.clear()
        self._unwanted.add(topic)
        return None

    async def aclose(self) -> None:
        """Release the memory and the socket."""
        self._ring.close()
        await self._channel.aclose()


async def subscribe_to(url: str, patterns: tuple[str, ...], **options: Any) -> Subscriber:
    """Subscribe at `url`, whether or not a publisher is there yet."""
    request, wants = encode_request(patterns), matcher(patterns) if patterns else None

    async def connect() -> RingConnection:
        channel = await open_channel(url, fds=True, **options)
        try:
            await channel.send(request)
            ring, number = await _attached(channel, url)
            try:
                counts: dict[bytes, int] = {}
                while more := await channel.receive():
                    counts.update(decode_counts(more))
            except BaseException:
                ring.close()
                raise
        except BaseException:
            await channel.aclose()
            raise
        return RingConnection(channel, ring, wants, number, counts)

    subscriber = Subscriber(url, connect)
    await subscriber.connect()
    return subscriber


async def _attached(channel: Channel, url: str) -> tuple[_Ring, int]:
    first = await channel.receive_message()
    try:
        if len(first.fds) != 1 or len(first.data) != 16:
            raise ProtocolError(f"{url}: not a publisher of topics")
        return _Ring(first.fds[0], int.from_bytes(first.data[:8]), url), int.from_bytes(first.data[8:])
    finally:
        for fd in first.fds:
            os.close(fd)
