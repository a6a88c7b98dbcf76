"""Job queues on a server: a stream with a consumer group, in which each entry is leased to one consumer at a time.

The stream is `name`, the group `aipc`, a consumer is a process and loop. An entry has the fields `t` (type) and `d` (data); any
client of the server can add one (XADD). A lease is an entry in the group's pending list that its consumer claims anew while it
works. What is given back stays there, and its id stands in `{name}:back`, ahead of what is new.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aipc._io import fork
from aipc._sys.clock import elapsed
from aipc._texts.shown import Fact, shown, usable
from aipc.abc import Buffer, Channel, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import InvalidMessage, LeaseLost, MessageTooLarge, UnsupportedOperation
from aipc.services.jobs.lease import Lease
from aipc.services.jobs.tables import JobsStatus
from aipc.wire.framing import as_bytes

from .consumer import Consumer, consumer_of
from .leases import Leases
from .links import registry
from .links.link import Link
from .queue import RemoteJob
from .server import Place

_MANY = 100
_BATCH_SIZE = 1024 * 1024
"""Messages, and bytes, of one script, at most: meanwhile the server does nothing else."""
_LOOKS = 4
"""Looks for ended leases in the time of one."""
NewJob = tuple[int, bytes]


class RemoteJobChannel(Channel):
    """A job queue on a server: what one process sends, any process that has the queue open may lease, or receive.

    `send` takes `type` (1 or more, default 1) and `delay` (seconds). `lease` and receiving take `dead=True`, for the jobs that
    failed too often. What another process sends comes in order; what is given back comes first.
    """

    def __init__(
        self, link: Link, place: Place, *, lease: float, max_messages: int, max_attempts: int, history: int, limit: int
    ) -> None:
        self._link = link
        self._name = place.url
        self._consumer = consumer_of(link, place)
        self._dead = consumer_of(link, place, "dead")
        self._queue = self._consumer.queue
        self._lease = lease
        self._most = max_messages
        self._max_attempts = max_attempts
        self._history = history
        self._limit = limit
        self._leases = Leases(self._consumer, lease)
        self._dead_leases = Leases(self._dead, lease)
        self._look_at = 0.0
        self._closed = False
        self._generation = fork.generation
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0

    # Sending

    async def send(self, item: Buffer, **meta: Any) -> None:
        delay = self._delay(meta)
        await self._put([self._new_job(item, meta)], delay)

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        delay = self._delay(meta)
        jobs = [self._new_job(item, meta)]
        sent = self._link.ask_now(self._queue.send(jobs, self._most, delay, waits=False))
        if not sent:
            raise anyio.WouldBlock(f"{self._name}: no room to send now; await send() waits for it")
        self._count_sent(jobs)

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        delay = self._delay(meta)
        jobs: list[NewJob] = []
        size = 0
        try:
            for item in items:
                jobs.append(self._new_job(item, meta))
                size += len(jobs[-1][1])
                if len(jobs) == _MANY or size >= _BATCH_SIZE:
                    await self._put(jobs, delay)
                    jobs, size = [], 0
        except (MessageTooLarge, InvalidMessage, TypeError):
            await self._put(jobs, delay)
            raise
        await self._put(jobs, delay)

    async def _put(self, jobs: list[NewJob], delay: float) -> None:
        while jobs:
            jobs = jobs[await self._put_some(jobs, delay) :]

    async def _put_some(self, jobs: list[NewJob], delay: float) -> int:
        def count(reply: Any) -> int:
            return self._count_sent(jobs[: reply or 0])

        async def put(registers: bool) -> int | None:
            command = self._queue.send(jobs, self._most, delay, waits=registers)
            return count(await self._link.ask(command, count)) or None

        if not self._most:
            return await put(registers=False) or 0
        return await self._link.wakes.place(self._queue.senders).attempt(put, self._check)

    def _count_sent(self, jobs: list[NewJob]) -> int:
        self._sent += len(jobs)
        self._bytes_sent += sum(len(data) for _, data in jobs)
        return len(jobs)

    def _new_job(self, item: Buffer, meta: Mapping[str, Any]) -> NewJob:
        data = bytes(as_bytes(item))
        if len(data) > self._limit:
            raise MessageTooLarge(f"{self._name}: a job of {len(data):,} bytes; max_message_size is {self._limit:,}")
        kind = meta.get("type", 1)
        if not 1 <= kind <= sys.maxsize:
            raise InvalidMessage(f"{self._name}: type={kind}: a job's type must be from 1 to {sys.maxsize:,}")
        return kind, data

    def _delay(self, meta: Mapping[str, Any]) -> float:
        self._check()
        if meta:
            self._know(meta, "type", "delay", "priority")
            if meta.get("priority"):
                raise UnsupportedOperation(f"{self._name}: a stream keeps its order: make a queue for each priority")
        delay: float = meta.get("delay", 0.0)
        if not 0 <= delay < sys.maxsize / 1000:
            raise InvalidMessage(f"{self._name}: delay={delay}: must be a number of seconds, 0 or more")
        return delay

    # Receiving

    def lease(self, **selection: Any) -> Lease[RemoteJob]:
        """`async with queue.lease() as job:` has a job for the block: `job.data`, `type`, `attempts`, `id`.

        It is removed at the end of the block, before anything that this process asks the server later; given back when the block
        raises or is cancelled, and when the channel is closed; and to be had by others when this process gave no sign of life for
        `lease_seconds`. LeaseLost at the end of the block if the lease had ended before.

        Cancelled while waiting for a job: none was taken. Cancelled at the end of the block: the job is removed all the same.
        """
        consumer, leases = self._selected(selection)

        async def take() -> RemoteJob:
            (job,) = await self._take(consumer, 1)
            leases.add(job)
            return job

        async def done(job: RemoteJob) -> None:
            self._check()
            leases.remove(job)
            self._count_received([job])
            if self._link.idle and leases.has(job):
                consumer.tell_done([job], self._history, certain=True)
            elif not await consumer.done(job, self._history):
                raise LeaseLost(f"{self._name}: job {job.id} was given back before its block ended")

        def give_back(job: RemoteJob) -> None:
            if leases.remove(job) and not self._link.closed and self._generation == fork.generation:
                consumer.give_back([job], self._attempts_of(consumer), counted=True)

        return Lease(take, done, give_back)

    async def receive(self, **selection: Any) -> bytes:
        return (await self._receive(selection, 1))[0].data

    def receive_nowait(self, **selection: Any) -> bytes:
        consumer, _ = self._selected(selection)
        jobs = consumer.take_now()
        if not jobs:
            raise anyio.WouldBlock(f"{self._name}: nothing to receive now; await receive() waits for it")
        return self._acknowledged(consumer, jobs)[0].data

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        return [job.data for job in await self._receive(selection, min(max_messages or _MANY, _MANY))]

    async def receive_message(self, **selection: Any) -> Message:
        (job,) = await self._receive(selection, 1)
        return Message(job.data, type=job.type)

    async def _receive(self, selection: Mapping[str, Any], most: int) -> list[RemoteJob]:
        consumer, _ = self._selected(selection)
        return self._acknowledged(consumer, await self._take(consumer, most))

    def _selected(self, selection: Mapping[str, Any]) -> tuple[Consumer, Leases]:
        self._check()
        self._know(selection, "type", "dead")
        if selection.get("type"):
            raise UnsupportedOperation(f"{self._name}: a stream keeps its order: make a queue for each type")
        return (self._dead, self._dead_leases) if selection.get("dead") else (self._consumer, self._leases)

    def _attempts_of(self, consumer: Consumer) -> int:
        """How often a job may be leased there; 0: as often as may be. A dead one stays dead."""
        return self._max_attempts if consumer is self._consumer else 0

    async def _take(self, consumer: Consumer, most: int) -> list[RemoteJob]:
        await checkpoint_if_cancelled()
        job = self._ready(consumer)
        if job is not None:
            return [job]
        place = self._link.wakes.place(consumer.queue.takers)

        async def take(registers: bool) -> list[RemoteJob] | None:
            job = self._ready(consumer)
            if job is not None:
                return [job]
            reply = await consumer.take(most, waits=registers)
            if isinstance(reply, list):
                return reply
            place.wake_in(self._lease / _LOOKS if reply < 0 else reply / 1000)
            return None

        try:
            jobs = await place.attempt(take, self._check)
        finally:
            consumer.settle()
        if self._closed:
            consumer.give_back(jobs)
            self._check()
        return jobs

    def _ready(self, consumer: Consumer) -> RemoteJob | None:
        """A job that has come already. Now and then, what dead consumers had is taken back."""
        if elapsed() >= self._look_at:
            self._look_at = elapsed() + self._lease / _LOOKS * random.uniform(0.5, 1)  # noqa: S311 - not all at once
            self._link.tell(consumer.queue.tend(self._lease, self._attempts_of(consumer)))
        return consumer.ready(elapsed() - self._lease / 10)

    def _acknowledged(self, consumer: Consumer, jobs: list[RemoteJob]) -> list[RemoteJob]:
        """Their removal is on its way, and nothing is awaited any more."""
        self._count_received(jobs)
        certain = all(consumer.has(job, self._lease) for job in jobs)
        consumer.tell_done(jobs, self._history, certain=certain)
        return jobs

    def _count_received(self, jobs: list[RemoteJob]) -> None:
        self._received += len(jobs)
        self._bytes_received += sum(len(job.data) for job in jobs)

    # The rest

    def stat(self) -> JobsStatus:
        """How many jobs are ready, leased, delayed, and dead. A plain call, which waits for the server's answer."""
        self._check()
        self._consumer.give_back_ready()
        ready, leased, delayed, dead, _ = self._link.ask_now(self._queue.stat())
        return JobsStatus(ready, leased, delayed, dead)

    async def revive(self) -> int:
        """Make dead jobs ready again, with no attempts, 1,000 at most: how many. Cancelled: all or none."""
        self._check()
        revived: int = await self._link.ask(self._queue.revive())
        return revived

    async def send_eof(self) -> None:
        self._check()
        raise UnsupportedOperation(f"{self._name}: a queue has no end: others may send")

    async def aclose(self) -> None:
        """Close; what this channel has leased is given back. Idempotent. Cancelled: it closes all the same."""
        if not self._closed and self._generation == fork.generation:
            self._end()
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await self._link.flushed()
            registry.leave(self._link)

    def close(self) -> None:
        """`aclose`, without waiting for the server's answers."""
        if not self._closed and self._generation == fork.generation:
            self._end()
            registry.leave(self._link)

    def _end(self) -> None:
        self._closed = True
        for consumer, leases in ((self._consumer, self._leases), (self._dead, self._dead_leases)):
            jobs = leases.clear()
            if not self._link.closed:
                consumer.give_back(jobs)
            consumer.leave()
            for name in (consumer.queue.takers, consumer.queue.senders):
                self._link.wakes.ring(name)

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._bytes_sent, self._bytes_received)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {ChannelAttribute.max_message_size: lambda: self._limit, ChannelAttribute.messages: lambda: self.stat().ready}

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield usable(self._closed, self._generation)
        yield "not connected" if self._link.connection is None else "connected"

    def _check(self) -> None:
        fork.check(self._generation, self._name)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._name}: closed")

    def _know(self, given: Mapping[str, Any], *known: str) -> None:
        unknown = given.keys() - set(known)
        if unknown:
            raise UnsupportedOperation(
                f"{self._name}: no such option here: {', '.join(sorted(unknown))} (this mechanism takes: {', '.join(known)})"
            )
