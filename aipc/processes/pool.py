"""`aipc.spawn_pool`: workers that are replaced when they end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from aipc._io.ending import GRACE, end
from aipc._io.loops import WaitQueue
from aipc._open import Opening
from aipc.abc import Buffer
from aipc.exceptions import AddressError, WorkerDied

from .spawn import spawn
from .worker import Worker

_logger = logging.getLogger("aipc")
Welcome = Callable[[Worker], Awaitable[object]]
POLICIES = ("always", "on-failure", "never")
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class _Seat:
    """A worker's place, which its successor gets."""

    __slots__ = ("busy", "retired", "worker")

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.busy = False
        self.retired = False

    @property
    def at_work(self) -> bool:
        """Whether a worker that lives is at a request."""
        return self.busy and self.worker is not None and self.worker.returncode is None


class Pool:
    """Workers that all run the same function. Made by `aipc.spawn_pool`; leaving its block ends them all.

    restarts    how many workers were started in the place of one that had ended
    """

    def __init__(
        self,
        tasks: anyio.abc.TaskGroup,
        start: Callable[[], Opening[Worker]],
        welcome: Welcome | None,
        pauses: _Pauses,
        restart: str,
        grace: float,
    ) -> None:
        self._tasks = tasks
        self._start = start
        self._welcome = welcome
        self._pauses = pauses
        self._restart = restart
        self._grace = grace
        self._seats: list[_Seat] = []
        self._kept = 0
        self._changed = WaitQueue()
        self._closing = anyio.Event()
        self.restarts: int = 0

    @property
    def workers(self) -> list[Worker]:
        """Those that run now. One that is being replaced is missing."""
        return [seat.worker for seat in self._seats if seat.worker is not None and seat.worker.returncode is None]

    async def wait_ready(self) -> None:
        """Wait until every worker has started, and was welcomed. WorkerDied if they have ended. Cancelled: nothing happened."""
        await self._ready(self._seats)

    async def _ready(self, seats: list[_Seat]) -> None:
        while not all(seat.worker is not None for seat in seats):
            self._check()
            await self._changed.queue()

    async def renew(self) -> None:
        """Put a new worker in the place of each, and then let the old ones end, as leaving the block would: a graceful restart.

        The old ones finish the requests that they are at. Cancelled: there may be more workers than before, until the next
        `renew`.
        """
        old = list(self._seats)
        self.keep(sum(not seat.retired for seat in old))
        await self._ready(self._seats[len(old) :])
        self._seats = self._seats[len(old) :]
        async with anyio.create_task_group() as tasks:
            for seat in old:
                seat.retired = True
                tasks.start_soon(self._retire, seat)

    async def _retire(self, seat: _Seat) -> None:
        with anyio.move_on_after(self._grace):
            await self._finished([seat])
        if seat.worker is not None:
            await seat.worker.aclose()

    async def _finished(self, seats: list[_Seat]) -> None:
        while any(seat.at_work for seat in seats):
            await self._changed.queue()

    async def wait(self) -> None:
        """Wait until no worker runs, and none will be started again. Cancelled: nothing happened."""
        while self._kept:
            await self._changed.queue()

    async def request(self, data: Buffer, *, retries: int = 0) -> bytes:
        """Send a message to a worker that is not at another request, and give its answer, the next message that it sends.

        For functions that answer each message with one. If the worker dies meanwhile, another one is asked, up to `retries`
        times; then WorkerDied: nobody knows whether it did what was asked. Waits while all workers are busy or being replaced;
        WorkerDied if none will come back, ClosedResourceError if the pool is being left. MessageTooLarge: nothing was sent.

        Cancelled: the worker may do it all the same; its answer is dropped, and it is free again after that.
        """
        while True:
            seat, worker = await self._free_seat()
            try:
                return await self._exchange(seat, worker, data)
            except _GONE as error:
                self._tasks.start_soon(worker.aclose)  # it may have closed its channel only
                if retries <= 0:
                    raise WorkerDied(f"worker {worker.pid}: gone before it answered") from error
                retries -= 1

    async def _exchange(self, seat: _Seat, worker: Worker, data: Buffer) -> bytes:
        before = worker.channel.statistics().messages_sent
        try:
            await worker.channel.send(data)
            answer = await worker.channel.receive()
        except _GONE:
            raise
        except BaseException:
            if worker.channel.statistics().messages_sent > before:
                self._tasks.start_soon(self._drop_answer, seat, worker)
            else:
                self._release(seat, worker)
            raise
        self._release(seat, worker)
        return answer

    async def _drop_answer(self, seat: _Seat, worker: Worker) -> None:
        try:
            await worker.channel.receive()
        except _GONE:
            await worker.aclose()
        else:
            self._release(seat, worker)

    async def _free_seat(self) -> tuple[_Seat, Worker]:
        while True:
            if self._closing.is_set():
                raise anyio.ClosedResourceError("the pool is being left")
            for seat in self._seats:
                worker = seat.worker
                if worker is not None and not seat.busy and worker.returncode is None:
                    seat.busy = True
                    return seat, worker
            self._check()
            await self._changed.queue()

    def _check(self) -> None:
        if not self._kept:
            raise WorkerDied("no worker of the pool runs, and none will be started again")

    def _release(self, seat: _Seat, worker: Worker) -> None:
        if seat.worker is worker:
            seat.busy = False
            self._changed.wake_all()

    def keep(self, n: int) -> None:
        """Start so many workers, and keep them running."""
        for _ in range(n):
            seat = _Seat()
            self._seats.append(seat)
            self._kept += 1
            self._tasks.start_soon(self._keep, seat)

    async def _keep(self, seat: _Seat) -> None:
        pauses = self._pauses.begin()
        try:
            while True:
                began = anyio.current_time()
                succeeded = await self._run(seat)
                if self._restart == "never" or (succeeded and self._restart == "on-failure"):
                    break
                with anyio.move_on_after(pauses.after(anyio.current_time() - began)):
                    await self._closing.wait()
                if self._closing.is_set() or seat.retired:
                    break
                self.restarts += 1
        finally:
            self._kept -= 1
            self._changed.wake_all()

    async def _run(self, seat: _Seat) -> bool:
        """One worker's life: whether its function returned."""
        try:
            async with self._start() as worker:
                if self._welcome is not None:
                    await self._welcome(worker)
                if self._closing.is_set():
                    return True  # leaving this block ends it
                seat.worker, seat.busy = worker, False
                self._changed.wake_all()
                try:
                    await worker.result()
                finally:
                    seat.worker = None
                    self._changed.wake_all()
        except Exception as error:
            if not (self._closing.is_set() or seat.retired):
                trace = None if isinstance(error, WorkerDied) else error
                _logger.error("a worker of the pool failed: %s", error, exc_info=trace)  # noqa: TRY400
            return False
        return True

    async def close(self) -> None:
        """End all workers at once, gently."""
        self._closing.set()
        self._changed.wake_all()
        with anyio.move_on_after(self._grace):
            await self._finished(self._seats)
        workers = self.workers

        def end_streams() -> None:
            for worker in workers:
                worker.end_stream()

        await end([worker.child for worker in workers], end_streams, self._grace, gently=True)
        await self.wait()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(str(worker.pid) for worker in self.workers)}>"


class _Pauses:
    """How long to wait before the next start: not at all for the first failure, then longer each time, up to a limit."""

    def __init__(self, first: float, limit: float, healthy_after: float) -> None:
        self._first = first
        self._limit = limit
        self._healthy_after = healthy_after
        self._failures = 0

    def begin(self) -> _Pauses:
        """For another seat."""
        return _Pauses(self._first, self._limit, self._healthy_after)

    def after(self, lived: float) -> float:
        """Seconds to wait after a worker that lived so many seconds."""
        if lived >= self._healthy_after:
            self._failures = 0
        self._failures += 1
        return 0 if self._failures == 1 else min(self._first * 2 ** min(self._failures - 2, 60), self._limit)


@asynccontextmanager
async def spawn_pool(
    n: int,
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    restart: str = "always",
    backoff: float = 0.1,
    backoff_limit: float = 30.0,
    healthy_after: float = 10.0,
    welcome: Welcome | None = None,
    grace: float = GRACE,
    **options: Any,
) -> AsyncIterator[Pool]:
    """`n` workers that run `function(channel, *args)`: `async with aipc.spawn_pool(4, work) as pool`.

    One that ends is replaced: "always"; "on-failure", if its function raised or it was killed; "never". The first time at once,
    then after `backoff` seconds, and twice as long each time up to `backoff_limit`, until one has lived for `healthy_after`
    seconds. Failures are logged (logger `aipc`). `await welcome(worker)` runs for each worker before it counts as one of the pool, to
    hand it what it needs: a listening socket, for example. `grace` and the other options are those of `aipc.spawn`.

    Leaving the block ends all workers as leaving the one of `spawn` would, at once; how they ended is not raised. TypeError,
    AddressError: as for `spawn`. Cancelled: all are ended and reaped.
    """
    if restart not in POLICIES:
        raise AddressError(f"spawn_pool(restart={restart!r}): must be one of {', '.join(POLICIES)}")
    if n < 1:
        raise AddressError(f"spawn_pool({n}): must be 1 worker or more")
    spawn(function, *args, grace=grace, **options)  # what is wrong with it, it says here
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        pauses = _Pauses(backoff, backoff_limit, healthy_after)
        pool = Pool(tasks, lambda: spawn(function, *args, grace=grace, **options), welcome, pauses, restart, grace)
        pool.keep(n)
        try:
            yield pool
            await pool.close()
        except Exception as error:  # noqa: BLE001 - raised below, by itself and not in a group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
