"""Job queues: a channel whose messages outlive their processes, each leased to one consumer at a time.

A job is removed when its consumer is done with it, and given back when the consumer fails, is cancelled, or dies. `tables` has the
stored data, `worker` the thread that works on it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from time import time
from typing import Any, TypeVar

import anyio

from aipc._address import Address
from aipc._io.errors import naming
from aipc._io.handle import Handle
from aipc._io.loop import backend
from aipc._texts.shown import Fact, counted, parked, shown, state
from aipc.abc import Buffer, Channel, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import InvalidMessage, LeaseLost, MessageTooLarge, UnsupportedOperation
from aipc.wire.framing import as_bytes

from . import registry
from .ahead import Ahead
from .files import open_files
from .lease import Lease
from .requests import Done, Put, Request, Step, Take
from .tables import Job, JobsStatus, NewJob, Selection, StoredJob, Tables
from .worker import Worker

Result = TypeVar("Result")

_LARGEST = sys.maxsize
_MANY = 100
"""The most jobs of one transaction."""
_PATIENCE, _LONG_PATIENCE = 0.1, 1.0
"""Seconds that plain calls wait for the thread."""
_CLOSING = 5.0
_ANY = Selection()


class _WorkerHandle(Handle):
    """Owns a share of a queue's worker."""

    __slots__ = ("worker",)

    def __init__(self, worker: Worker, name: str) -> None:
        super().__init__(name)
        self.worker: Worker = worker

    def _close(self) -> None:
        registry.leave(self.worker)

    def __del__(self) -> None:
        if not getattr(self, "closed", True) and not self.forked:
            warnings.warn(f"{self.name}: never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()


class JobChannel(Channel):
    """A job queue: any process that has the queue open may lease, or receive, the jobs that another one sends.

    `send` takes `type` (1 or more, default 1), `priority` (higher ones first, default 0) and `delay` (seconds). `lease` and
    receiving take `type` (n: that type, -n: the lowest up to n, 0: any) and `dead=True`, for the jobs that failed too often.
    """

    def __init__(self, worker: Worker, name: str, max_message_size: int) -> None:
        self._handle = _WorkerHandle(worker, name)
        self._worker = worker
        self._name = name
        self._limit = max_message_size
        self._requests: set[Request[Any]] = set()
        self._leases: dict[int, Job] = {}
        self._ahead = Ahead(worker.submit, worker.keep)
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0

    # Sending

    async def send(self, item: Buffer, **meta: Any) -> None:
        await self._put([self._new_job(item, **meta)])

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        put = Put([self._new_job(item, **meta)], now=True)
        self._ask_now(put)
        self._count_sent(put)

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        jobs: list[NewJob] = []
        try:
            for item in items:
                jobs.append(self._new_job(item, **meta))
                if len(jobs) == _MANY:
                    await self._put(jobs)
                    jobs = []
        except (MessageTooLarge, InvalidMessage, TypeError):
            await self._put(jobs)
            raise
        await self._put(jobs)

    async def _put(self, jobs: list[NewJob]) -> None:
        while jobs:
            put = Put(jobs)
            try:
                await self._ask(put)
            finally:
                self._count_sent(put)
            jobs = jobs[put.result() :]

    def _count_sent(self, put: Put) -> None:
        sent = put.jobs[: put.value or 0]
        self._sent += len(sent)
        self._bytes_sent += sum(len(job.data) for job in sent)
        self._ahead.sent(sent)

    def _new_job(self, item: Buffer, **meta: Any) -> NewJob:
        self._check()
        self._know(meta, "type", "priority", "delay")
        data = bytes(as_bytes(item))
        if len(data) > self._limit:
            raise MessageTooLarge(f"{self._name}: a job of {len(data):,} bytes; max_message_size is {self._limit:,}")
        kind, priority, delay = meta.get("type", 1), meta.get("priority", 0), meta.get("delay", 0.0)
        if not 1 <= kind <= _LARGEST:
            raise InvalidMessage(f"{self._name}: type={kind}: a job's type must be from 1 to {_LARGEST:,}")
        if not -_LARGEST <= priority <= _LARGEST:
            raise InvalidMessage(f"{self._name}: priority={priority}: must be from {-_LARGEST:,} to {_LARGEST:,}")
        if not 0 <= delay < float("inf"):
            raise InvalidMessage(f"{self._name}: delay={delay}: must be a number of seconds, 0 or more")
        return NewJob(kind, priority, time() + delay if delay else 0.0, data)

    # Receiving

    def lease(self, **selection: Any) -> Lease[Job]:
        """Lease a job for a block, `async with queue.lease() as job:`: `job.data`, `type`, `priority`, `attempts`, `id`.

        It is removed at the end of the block; given back when the block raises or is cancelled, when the channel is closed, and
        when this process ends in any way. LeaseLost at the end of the block if the lease had ended before, by closing.

        Cancelled while waiting for a job: none was taken. Cancelled at the end of the block: the job is removed.
        """
        selected = self._selection(selection)

        return Lease(partial(self._lease, selected), partial(self._done, selected), self._give_back)

    async def _lease(self, selection: Selection) -> Job:
        job = None
        if self._ahead:
            await backend.checkpoint()
            self._check()
            job = self._ahead.take(selection)
        if job is None:
            (job,) = await self._take(Take(selection, 1))
        self._leases[job.id] = job
        return job

    async def receive(self, **selection: Any) -> bytes:
        return (await self._receive(selection, 1))[0].data

    def receive_nowait(self, **selection: Any) -> bytes:
        take = Take(self._selection(selection), 1, removes=True, now=True)
        self._ahead.give_back()
        self._ask_now(take)
        return self._received_now(take)[0].data

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        return [job.data for job in await self._receive(selection, min(max_messages or _MANY, _MANY))]

    async def receive_message(self, **selection: Any) -> Message:
        (job,) = await self._receive(selection, 1)
        return Message(job.data, type=job.type, priority=job.priority)

    async def _receive(self, selection: Mapping[str, Any], most: int) -> list[Job]:
        take = Take(self._selection(selection), most, removes=True)
        self._ahead.give_back()
        await self._take(take)
        return self._received_now(take)

    def _selection(self, given: Mapping[str, Any]) -> Selection:
        self._check()
        if not given:
            return _ANY
        self._know(given, "type", "dead")
        kind = given.get("type") or 0
        if abs(kind) > _LARGEST:
            raise InvalidMessage(f"{self._name}: type={kind}: no job has such a type; the largest is {_LARGEST:,}")
        return Selection(kind, bool(given.get("dead")))

    async def _take(self, take: Take) -> list[Job]:
        try:
            return await self._ask(take)
        except BaseException:
            if take.value and not take.removed:  # leased, but nobody receives them
                self._end_leases(take.value, counted=False)
            raise

    def _received_now(self, take: Take) -> list[Job]:
        """Return jobs whose leases end at once: the removal is queued, and nothing is awaited any more."""
        jobs = take.result()
        for job in jobs:
            self._count_received(job)
        if not take.removed:
            self._worker.submit(Done(jobs))
        return jobs

    def _count_received(self, job: Job) -> None:
        self._received += 1
        self._bytes_received += len(job.data)

    async def _done(self, selection: Selection, job: Job) -> None:
        self._check()
        self._leases.pop(job.id, None)
        self._count_received(job)
        alone = not self._worker.asking  # the requests of many tasks go better by themselves, in large transactions
        done = Done([job], self._ahead.wanted(selection) if alone else None)
        try:
            lost = await self._ask(done, withdraws=False)
        except BaseException:
            if (brought := self._worker.inbox.bring_nothing(done)) is not None:
                self._end_leases([brought], counted=False)
            if done.error is not None:  # it was not removed
                self._end_leases([job], counted=True)
            raise
        if done.then is not None:
            self._keep(selection, done.next)
        if lost:
            raise LeaseLost(f"{self._name}: job {job.id} was given back before its block ended")

    def _keep(self, selection: Selection, job: Job | None) -> None:
        self._ahead.came(selection, job)
        if self._handle.closed:
            self._ahead.close()

    def _give_back(self, job: Job) -> None:
        if self._leases.pop(job.id, None) is not None and not self._handle.forked:
            self._end_leases([job], counted=True)

    def _end_leases(self, jobs: list[Job], *, counted: bool) -> None:
        self._worker.submit(Step(lambda tables: tables.give_back(jobs, counted=counted)))

    # The rest

    def stat(self) -> JobsStatus:
        """The numbers of ready, leased, delayed and dead jobs, after giving back the leases of processes that have ended.

        WouldBlock after a second: another process was stopped in its turn.
        """
        self._ahead.give_back()
        return self._ask_now(Step(Tables.status, looks=True, now=True), patience=_LONG_PATIENCE)

    async def jobs(self, most: int = 100) -> list[StoredJob]:
        """Return the oldest jobs, at most `most`, whatever their state, and leave them there. Cancelled: nothing happened."""
        self._ahead.give_back()
        return await self._ask(Step(lambda tables: tables.stored(most), looks=True))

    async def revive(self) -> int:
        """Make all dead jobs ready again, with no attempts; return their number. Cancelled: all or none."""
        self._ahead.give_back()
        return await self._ask(Step(Tables.revive))

    async def send_eof(self) -> None:
        self._check()
        raise UnsupportedOperation(f"{self._name}: a queue has no end: others may send")

    async def aclose(self) -> None:
        """Close, and give back the leases of this channel. Idempotent. Cancelled: it is closed all the same."""
        worker = self._worker
        self.close()
        if worker.users == 0 and not self._handle.forked:
            with anyio.move_on_after(_CLOSING, shield=True):  # a process that is stopped in its turn keeps the files
                await worker.wait_ended()

    def close(self) -> None:
        """`aclose`, without waiting for the thread to end."""
        if self._handle.closed or self._handle.forked:
            return
        for request in tuple(self._requests):
            if not isinstance(request, Done) and self._worker.inbox.withdraw(request):
                request.error = anyio.ClosedResourceError(f"{self._name}: closed")
                request.wake()
        self._ahead.close()
        leases, self._leases = self._leases, {}
        if leases:
            self._end_leases(list(leases.values()), counted=False)
        self._handle.close()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._bytes_sent, self._bytes_received)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {ChannelAttribute.max_message_size: lambda: self._limit, ChannelAttribute.messages: lambda: self.stat().ready}

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield state(self._handle)
        yield counted(len(self._leases), "leased job")
        yield parked(len(self._requests))

    def _check(self) -> None:
        try:
            self._handle.check()
        except OSError as error:
            raise self._handle.explain(error) from None

    def _know(self, given: Mapping[str, Any], *known: str) -> None:
        unknown = given and given.keys() - set(known)
        if unknown:
            raise UnsupportedOperation(
                f"{self._name}: no such option here: {', '.join(sorted(unknown))} (this mechanism takes: {', '.join(known)})"
            )

    async def _ask(self, request: Request[Result], *, withdraws: bool = True) -> Result:
        """Send the worker a request. Cancelled: not done, or `request.value` says what was done; without `withdraws`: done."""
        self._check()
        worker = self._worker
        worker.asking += 1
        try:
            if worker.asking == 1:  # many requests are served together
                if withdraws:
                    await backend.checkpoint()
                    self._check()
                if worker.asking == 1 and worker.serve_now(request):
                    return request.result()
            await self._wait_for(request, withdraws=withdraws)
        finally:
            worker.asking -= 1
        return request.result()

    async def _wait_for(self, request: Request[Any], *, withdraws: bool) -> None:
        self._requests.add(request)
        request.loop = loop = backend.current()
        self._worker.submit(request)
        try:
            await request.answered(loop)
        except BaseException:
            if withdraws:
                self._worker.inbox.withdraw(request)
            raise
        finally:
            self._requests.discard(request)

    def _ask_now(self, request: Request[Result], *, patience: float = _PATIENCE) -> Result:
        self._check()
        if not self._worker.asking and self._worker.serve_now(request):
            return request.result()
        self._worker.submit(request)
        if not self._worker.inbox.wait(request, patience):
            raise anyio.WouldBlock(f"{self._name}: other requests come first; the call that is awaited waits for them")
        return request.result()


async def connect(
    address: Address,
    *,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool = False,
    durable: bool = False,
    max_messages: int | None = None,
    max_attempts: int | None = None,
    max_message_size: int = 16 * 1024 * 1024,
) -> JobChannel:
    """Open a queue. ObjectMissing if there is no file (unless `create`), ObjectExists with `exclusive` if there is one.

    `max_messages` and `max_attempts` are stored in the file, for all processes: the number of jobs before a sender waits, and of leases
    before a failing job is dead; by default there is no limit (`max_attempts=0`). `durable` syncs each transaction, against power
    loss. `unlink` removes the files on close. WrongObject if the file is not a queue. Cancelled: nothing was opened.
    """
    with naming(address.url):
        files = open_files(address, create=create, exclusive=exclusive, mode=mode)
    worker = registry.worker_of(files, durable=durable, unlink=unlink)
    channel = JobChannel(worker, address.url, max_message_size)
    try:
        await channel._ask(Step(lambda tables: tables.limit(max_messages, max_attempts)))
    except BaseException:
        await channel.aclose()
        raise
    return channel
