"""`aipc.spawn_pool`: workers that are replaced when they end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, TypeVarTuple, Unpack, cast

import anyio
import anyio.abc

from aipc._child.termination import GRACE, terminate
from aipc._io import fork
from aipc._io.loop import backend
from aipc.abc import Buffer, Channel
from aipc.exceptions import AddressError, ProtocolError, WorkerDied

from .backoff import Backoff
from .changes import Changes
from .numbered import AskingChannel
from .slot import Plan, Slot, Welcome
from .spawn import WorkerOptions, opening
from .worker import Worker

_logger = logging.getLogger("aipc")
Args = TypeVarTuple("Args")
POLICIES = ("always", "on-failure", "never")
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Pool:
    """Workers that all run the same function. Made by `aipc.spawn_pool`; leaving its block ends them all.

    In a forked child every call raises ForkedError.

    restarts    the number of workers that were started to replace one that had ended
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, plan: Plan) -> None:
        self._tasks = tasks
        self._plan = plan
        self._generation = fork.generation
        self._changes = Changes()
        self._line = anyio.Lock(fast_acquire=True)  # requests wait for a worker in this order
        self._renewing = anyio.Lock()
        self._left = False
        self._n = 0
        self._slots: list[Slot] = []
        self.restarts: int = 0

    @property
    def workers(self) -> list[Worker]:
        """The workers that run now, without those that are being replaced."""
        workers = [slot.worker for slot in self._slots if slot.worker is not None and not slot.retired]
        return [worker for worker in workers if worker.returncode is None]

    async def wait_ready(self) -> None:
        """Wait until every worker has started, and its `welcome` has returned.

        WorkerDied if a worker will never be ready, ClosedResourceError if the pool is closing. Cancelled: nothing happened.
        """
        self._check()
        await self._ready(self._slots)

    async def _ready(self, slots: Iterable[Slot]) -> None:
        await self._changes.until(lambda: self._left or all(slot.settled for slot in slots))
        self._check()
        if any(slot.over and not slot.retired for slot in slots):
            raise WorkerDied("a worker of the pool has ended, and none will be started in its place")

    async def renew(self) -> None:
        """Replace each worker by a new one, then end the old ones as leaving the block would: a graceful restart.

        The old workers finish their current requests. Only one `renew` runs at a time: a second one waits until the new workers
        have started, and then replaces those. WorkerDied if a new worker ends and is not replaced (`restart`): the old ones stay.
        ClosedResourceError if the pool is closing. Cancelled before all new workers have started: the old ones stay, and the new
        ones end. Cancelled later: the old ones end.
        """
        self._check()
        async with self._renewing:
            self._check()
            old = [slot for slot in self._slots if not slot.retired]
            new = self._add(self._n)
            try:
                await self._ready(new)
            except BaseException:
                self._retire(new)
                raise
            self._retire(old)
        await self._changes.until(lambda: all(slot.over for slot in old))

    def keep(self, n: int) -> None:
        """Start `n` more workers, and keep them running."""
        self._n += n
        self._add(n)

    def _add(self, n: int) -> list[Slot]:
        slots = [Slot(self._plan, self._changes) for _ in range(n)]
        self._slots += slots
        for slot in slots:
            self._tasks.start_soon(self._keep, slot)
        return slots

    async def _keep(self, slot: Slot) -> None:
        try:
            await slot.keep(self._restarted)
        finally:
            self._forget()

    def _restarted(self) -> None:
        self.restarts += 1

    def _retire(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            slot.retire()
            if not self._left:  # closing ends them all
                self._tasks.start_soon(self._end_when_free, slot)
        self._forget()

    def _forget(self) -> None:
        self._slots = [slot for slot in self._slots if not (slot.retired and slot.over)]

    async def _end_when_free(self, slot: Slot) -> None:
        with anyio.move_on_after(self._plan.grace):
            await self._changes.until(lambda: not slot.busy)
        slot.end(slot.process)

    async def wait(self) -> None:
        """Wait until no worker runs and none will be started. Cancelled: nothing happened."""
        self._check_fork()
        await self._changes.until(lambda: all(slot.over for slot in self._slots))

    async def request(self, data: Buffer, *, retries: int = 0) -> bytes:
        """Send a message to a free worker, and return its answer: the next message that the worker sends.

        For functions that answer each message with one message. If the worker dies, or its answer cannot be read, the request
        goes to another worker, up to `retries` times; then WorkerDied: it is unknown whether the request was carried out. While
        all workers are busy or being replaced, the request waits, after the requests that wait already. WorkerDied if no worker
        will come back, ClosedResourceError if the pool is closing. MessageTooLarge: nothing was sent.

        Cancelled after a part was sent: the worker carries the request out; its answer is dropped, and then the worker is free.
        """
        self._check()
        while True:
            async with self._line:
                slot, worker = await self._free_worker()
            try:
                return await self._exchange(slot, worker, data)
            except WorkerDied:
                if retries <= 0:
                    raise
                retries -= 1

    async def _exchange(self, slot: Slot, worker: Worker, data: Buffer) -> bytes:
        channel = _asking(worker)
        try:
            await channel.ask(data)
        except _GONE as error:
            raise self._lost(slot, worker, error) from error
        except BaseException:  # nothing was sent
            slot.release(worker)
            raise
        try:
            answer = await channel.answer()
        except Exception as error:
            raise self._lost(slot, worker, error) from error
        except BaseException:
            if backend.running():  # otherwise the loop is closing
                backend.start_soon(self._drop_answer, slot, worker)
            raise
        slot.release(worker)
        return answer

    async def _drop_answer(self, slot: Slot, worker: Worker) -> None:
        try:
            await _asking(worker).answer()
        except Exception as error:  # noqa: BLE001 - any error ends this worker only
            self._lost(slot, worker, error)
        else:
            slot.release(worker)

    def _lost(self, slot: Slot, worker: Worker, error: Exception) -> WorkerDied:
        """End a worker whose answer is missing or unreadable; return the error for its request."""
        if isinstance(error, _GONE) and not isinstance(error, ProtocolError):
            slot.end(worker)  # perhaps only its channel is closed
            return WorkerDied(f"worker {worker.pid}: gone before it answered")
        slot.end(worker, at_once=True)
        died = WorkerDied(f"worker {worker.pid}: ended, because its answer can't be read: {error}")
        _logger.error("a worker of the pool failed: %s", died)
        return died

    async def _free_worker(self) -> tuple[Slot, Worker]:
        """Return a free worker, marked as busy."""
        while True:
            self._check()
            for slot in self._slots:
                worker = slot.free_worker()
                if worker is not None:
                    slot.busy = True
                    return slot, worker
            if all(slot.over or slot.retired for slot in self._slots):
                raise WorkerDied("no worker of the pool runs, and none will be started again")
            await self._changes.next()

    def _check(self) -> None:
        self._check_fork()
        if self._left:
            raise anyio.ClosedResourceError("the pool is closing")

    def _check_fork(self) -> None:
        fork.check(self._generation, "a pool of workers")

    def leave(self) -> None:
        """Accept no more requests, and start no more workers."""
        self._left = True
        for slot in self._slots:
            slot.retire()

    async def close(self) -> None:
        """End all workers at the same time, gently: busy ones have time to finish. In a forked child: nothing."""
        if self._generation != fork.generation:
            return
        self.leave()
        with anyio.move_on_after(self._plan.grace):
            await self._changes.until(lambda: not any(slot.busy for slot in self._slots))
        workers = [slot.process for slot in self._slots if slot.process is not None]

        def end_streams() -> None:
            for worker in workers:
                worker.end_stream()

        await terminate([worker.child for worker in workers], end_streams, self._plan.grace, gently=True)
        for slot in self._slots:
            if slot.worker is None:  # its `welcome` may still be waiting
                slot.end(slot.process)
        await self.wait()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(str(worker.pid) for worker in self.workers)}>"


def _asking(worker: Worker) -> AskingChannel:
    return cast(AskingChannel, worker.channel)


@asynccontextmanager
async def spawn_pool(
    n: int,
    function: Callable[[Channel, *Args], Awaitable[object]],
    *args: *Args,
    channel: Literal["stream", "seqpacket", "shm"] = "stream",
    restart: Literal["always", "on-failure", "never"] = "always",
    backoff: float = 0.1,
    backoff_limit: float = 30.0,
    healthy_after: float = 10.0,
    welcome: Welcome | None = None,
    **options: Unpack[WorkerOptions],
) -> AsyncIterator[Pool]:
    """Start `n` workers that run `function(channel, *args)`: `async with aipc.spawn_pool(4, work) as pool`.

    Failures are logged (logger `aipc`). Leaving the block ends all workers at the same time, as leaving the block of `spawn` ends
    one; how they ended is not raised.

    Args:
        n: The number of workers, 1 or more.
        function: As for `spawn`.
        *args: As for `spawn`.
        channel: As for `spawn`.
        restart: When a worker that ended is replaced: "always"; "on-failure", if its function raised or it was killed; "never".
        backoff: Seconds before the second replacement. The first is immediate; later pauses double.
        backoff_limit: The longest pause, in seconds.
        healthy_after: A worker that lived for so many seconds resets the pause.
        welcome: `await welcome(worker)` runs before a worker gets requests, for example to send it a listening socket.
        **options: `loop`, `grace`, `cwd` and `env`, as for `spawn`.

    Raises:
        TypeError: Before anything is started: `function` or `args` cannot be pickled.
        AddressError: An unknown kind of channel, loop or `restart`, or `n` below 1.

    Cancelled: all workers are ended and reaped.
    """
    if restart not in POLICIES:
        raise AddressError(f"spawn_pool(restart={restart!r}): must be one of {', '.join(POLICIES)}")
    if n < 1:
        raise AddressError(f"spawn_pool({n}): must be 1 worker or more")
    start = partial(opening, function, args, numbered=True, channel=channel, **options)
    start()  # raises here if an argument is wrong
    grace = options.get("grace", GRACE)
    plan = Plan(start, welcome, partial(Backoff, backoff, backoff_limit, healthy_after), restart, grace)
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        pool = Pool(tasks, plan)
        pool.keep(n)
        try:
            yield pool
            await pool.close()
        except Exception as error:  # noqa: BLE001 - raised below, outside of an exception group
            failed = error
        finally:
            pool.leave()
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
