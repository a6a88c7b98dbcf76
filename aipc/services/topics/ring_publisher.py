"""A publisher in shared memory: one copy of each message for all subscribers, which filter it themselves.

The memory (`wire.broadcast`) is a memfd that subscribers can only read: F_SEAL_FUTURE_WRITE (fcntl(2)), set once it is mapped here.
A subscriber connects to a Unix socket and sends its request. It gets the memory's descriptor with its first position and the number
of messages before that (8 bytes each). Then come, in any number of messages, the counts of each wanted topic: 8 bytes, the topic's
length (2 bytes), the topic, and so on. An empty message ends that. All numbers are big-endian. The socket's end is the publisher's.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from aipc._io.doorbell import Doorbell
from aipc._io.loop import backend
from aipc._opening.openers import listen
from aipc._sys import membarrier, memfd
from aipc.abc import Buffer, Channel, Listener
from aipc.exceptions import AddressError
from aipc.wire.broadcast import LARGEST, PAGE, SMALLEST, Writer, is_capacity, longest

from .frames import encode_counts
from .matching import matcher
from .publisher import GONE, ListeningPublisher

_F_SEAL_FUTURE_WRITE = 0x10
_BETWEEN_TURNS = 128
_BETWEEN_CALLS = 500e-6
"""Seconds between two calls of waiting subscribers: calling one for each message would take the publisher's time."""


def doorbell_name(status: os.stat_result) -> str:
    """The name by which waiting subscribers are called: the memory has no other name."""
    return f"topics {status.st_dev} {status.st_ino}"


class RingPublisher(ListeningPublisher):
    """Publishing never waits, and costs the same for any number of subscribers."""

    def __init__(self, listener: Listener, url: str, capacity: int) -> None:
        self._fd = memfd.create_unsealed("aipc topics", PAGE + capacity)
        try:
            memory = mmap.mmap(self._fd, PAGE + capacity)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, memfd.SEALS | _F_SEAL_FUTURE_WRITE)
        except BaseException:
            os.close(self._fd)
            raise
        membarrier.registered()  # so that the barriers of waiting subscribers reach this process
        self._writer = Writer(memoryview(memory), membarrier.Barriers().fence)
        self._doorbell = Doorbell(doorbell_name(os.fstat(self._fd)))
        self._counts: dict[bytes, int] = {}
        self._turn = _BETWEEN_TURNS
        self._notified = 0.0
        self._timer: backend.Timer | None = None
        super().__init__(listener, url, longest(capacity))

    async def publish(self, topic: str, data: Buffer) -> None:
        self.publish_nowait(topic, data)
        self._turn -= 1
        if self._turn <= 0:
            self._turn = _BETWEEN_TURNS
            await anyio.lowlevel.cancel_shielded_checkpoint()  # it is published already

    def publish_nowait(self, topic: str, data: Buffer) -> None:
        name, content = self._checked(topic, data)
        count = self._counts[name] = self._counts.get(name, 0) + 1
        self._writer.publish(name, content, count)
        self._notify_in_time()

    def _notify_in_time(self) -> None:
        now = monotonic()
        if now - self._notified >= _BETWEEN_CALLS:
            self._notified = now
            self._doorbell.notify()
        elif self._timer is None:
            self._timer = backend.call_later(backend.current(), _BETWEEN_CALLS, self._notify_late)

    def _notify_late(self) -> None:
        self._timer = None
        self._notified = monotonic()
        self._doorbell.notify()

    async def flush(self) -> None:
        """Do nothing: published messages are in the memory."""

    async def _serve_subscriber(self, channel: Channel, patterns: tuple[str, ...]) -> None:
        begin = self._writer.position.to_bytes(8) + self._writer.number.to_bytes(8)
        counts = dict(self._counts)
        wants = matcher(patterns)
        with suppress(*GONE):
            await channel.send(begin, fds=[self._fd])
            known = ((topic, count) for topic, count in counts.items() if wants(topic.decode(errors="surrogateescape")))
            await channel.send_many(encode_counts(known))
            await channel.send(b"")
            await channel.receive()  # it sends nothing more: this is its end

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._timer is not None:
                self._timer.cancel()
            self._doorbell.notify()
            self._doorbell.close()
            self._writer.close()


async def publish_on(url: str, *, capacity: int, **options: Any) -> RingPublisher:
    """Listen at `url`, a Unix socket, and publish to all clients."""
    if not is_capacity(capacity):
        raise AddressError(f"{url!r}: capacity={capacity}: must be a power of two from {SMALLEST:,} to {LARGEST:,}")
    listener = await listen(url, fds=True, **options)
    try:
        return RingPublisher(listener, url, capacity)
    except BaseException:
        await listener.aclose()
        raise
