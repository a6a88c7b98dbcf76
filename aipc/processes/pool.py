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

    In a forked child everything is ForkedError.

    restarts    how many workers were started in the place of one that had ended
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, plan: Plan) -> None:
        self._tasks = tasks
        self._plan = plan
        self._generation = fork.generation
        self._changes = Changes()
        self._line = anyio.Lock(fast_acquire=True)  # requests that wait for a worker, one behind the other
        self._renewing = anyio.Lock()
        self._left = False
        self._n = 0
        self._slots: list[Slot] = []
        self.restarts: int = 0

    @property
    def workers(self) -> list[Worker]:
        """Those that run now. One that is being replaced is missing."""
        workers = [slot.worker for slot in self._slots if slot.worker is not None and not slot.retired]
        return [worker for worker in workers if worker.returncode is None]

    async def wait_ready(self) -> None:
        """Wait until every worker has started, and was welcomed.

        WorkerDied if one never will be, ClosedResourceError if the pool is being left. Cancelled: nothing happened.
        """
        self._check()
        await self._ready(self._slots)

    async def _ready(self, slots: Iterable[Slot]) -> None:
        await self._changes.until(lambda: self._left or all(slot.settled for slot in slots))
        self._check()
        if any(slot.over and not slot.retired for slot in slots):
            raise WorkerDied("a worker of the pool has ended, and none will be started in its place")

    async def renew(self) -> None:
        """Put a new worker in the place of each, and then let the old ones end, as leaving the block would: a graceful restart.

        The old ones finish the requests that they are at. One `renew` at a time: another one waits until the new workers are
        there, and then replaces those. WorkerDied if a new one ends and is not to be replaced (`restart`): then the old ones
        stay. ClosedResourceError if the pool is being left. Cancelled: the old ones stay, and the new ones end; or, when all of
        the new ones were there, the old ones end all the same.
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
        """Start so many workers, beside those that there are, and keep them running."""
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
            if not self._left:  # which ends them all
                self._tasks.start_soon(self._end_when_free, slot)
        self._forget()

    def _forget(self) -> None:
        self._slots = [slot for slot in self._slots if not (slot.retired and slot.over)]

    async def _end_when_free(self, slot: Slot) -> None:
        with anyio.move_on_after(self._plan.grace):
            await self._changes.until(lambda: not slot.busy)
        slot.end(slot.process)

    async def wait(self) -> None:
        """Wait until no worker runs, and none will be started again. Cancelled: nothing happened."""
        self._check_fork()
        await self._changes.until(lambda: all(slot.over for slot in self._slots))

    async def request(self, data: Buffer, *, retries: int = 0) -> bytes:
        """Send a message to a worker that is not at another request, and give its answer, the next message that it sends.

        For functions that answer each message with one. If the worker dies meanwhile, or its answer can't be read, another one is
        asked, up to `retries` times; then WorkerDied: nobody knows whether it did what was asked. Waits while all workers are busy
        or being replaced, behind the requests that wait already; WorkerDied if none will come back, ClosedResourceError if the
        pool is being left. MessageTooLarge: nothing was sent.

        Cancelled: if a part of it had left, the worker does it all the same; its answer is dropped, and it is free again after
        that.
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
        except BaseException:  # not a byte of it has left
            slot.release(worker)
            raise
        try:
            answer = await channel.answer()
        except Exception as error:
            raise self._lost(slot, worker, error) from error
        except BaseException:
            if backend.running():  # else this is the loop's end
                backend.start_soon(self._drop_answer, slot, worker)
            raise
        slot.release(worker)
        return answer

    async def _drop_answer(self, slot: Slot, worker: Worker) -> None:
        try:
            await _asking(worker).answer()
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this worker only
            self._lost(slot, worker, error)
        else:
            slot.release(worker)

    def _lost(self, slot: Slot, worker: Worker, error: Exception) -> WorkerDied:
        """Let a worker end that gave no answer, or one that can't be read: what its request is told."""
        if isinstance(error, _GONE) and not isinstance(error, ProtocolError):
            slot.end(worker)  # it may have closed its channel only
            return WorkerDied(f"worker {worker.pid}: gone before it answered")
        slot.end(worker, at_once=True)
        died = WorkerDied(f"worker {worker.pid}: ended, because its answer can't be read: {error}")
        _logger.error("a worker of the pool failed: %s", died)
        return died

    async def _free_worker(self) -> tuple[Slot, Worker]:
        """One that is at this request from now on."""
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
            raise anyio.ClosedResourceError("the pool is being left")

    def _check_fork(self) -> None:
        fork.check(self._generation, "a pool of workers")

    def leave(self) -> None:
        """No more requests, and no more workers."""
        self._left = True
        for slot in self._slots:
            slot.retire()

    async def close(self) -> None:
        """End all workers at once, gently: those at a request have time to finish it. In a forked child: nothing."""
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
            if slot.worker is None:  # its welcome may wait for something else
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
    """`n` workers that run `function(channel, *args)`: `async with aipc.spawn_pool(4, work) as pool`.

    Leaving the block ends all workers, at once, as leaving the block of `spawn` ends one; how they ended is not raised. Failures are
    logged (logger `aipc`).

    Args:
        n: How many workers, 1 or more.
        function: As for `spawn`.
        *args: As for `spawn`.
        channel: As for `spawn`.
        restart: When a worker that ended is replaced: "always"; "on-failure", if its function raised or it was killed; "never".
        backoff: Seconds before a worker is replaced. The first time there is no pause; then each pause is twice the one before.
        backoff_limit: The longest pause, in seconds.
        healthy_after: Seconds after which a worker counts as healthy: the pauses begin anew.
        welcome: `await welcome(worker)` runs for each worker before it counts as one of the pool, to hand it what it needs: a
            listening socket, for example.
        **options: `loop`, `grace`, `cwd` and `env`, as for `spawn`.

    Raises:
        TypeError: Before anything is started: `function` or `args` can't be pickled.
        AddressError: There is no such kind of channel, loop or `restart`, or `n` is less than 1.

    Cancelled: all are ended and reaped.
    """
    if restart not in POLICIES:
        raise AddressError(f"spawn_pool(restart={restart!r}): must be one of {', '.join(POLICIES)}")
    if n < 1:
        raise AddressError(f"spawn_pool({n}): must be 1 worker or more")
    start = partial(opening, function, args, numbered=True, channel=channel, **options)
    start()  # what is wrong with it, it says here
    grace = options.get("grace", GRACE)
    plan = Plan(start, welcome, partial(Backoff, backoff, backoff_limit, healthy_after), restart, grace)
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        pool = Pool(tasks, plan)
        pool.keep(n)
        try:
            yield pool
            await pool.close()
        except Exception as error:  # noqa: BLE001 - raised below, by itself and not in a group
            failed = error
        finally:
            pool.leave()
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
