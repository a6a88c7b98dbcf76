"""A pool: workers that are replaced when they end. `opening` makes it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Literal, TypeVar, TypeVarTuple, overload

import anyio
import anyio.abc

from aipc._child.termination import terminate
from aipc._io import fork
from aipc._texts.shown import Fact, counted, shown, usable
from aipc.abc import Buffer
from aipc.exceptions import WorkerDied

from .. import task_pickle
from ..changes import Changes
from ..workers.worker import Worker
from .requests import Request, Requests
from .slot import Plan, Slot
from .statistics import PoolStatistics, quantiles

Args = TypeVarTuple("Args")
ResultT = TypeVar("ResultT")
_ON_CANCEL = {"finish": False, "kill": True}


class Pool:
    """Workers that all run the same function. Made by `aipc.spawn_pool`; leaving its block ends them all.

    In a forked child every call raises ForkedError.

    restarts    the number of workers that were started to replace one that had ended
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, plan: Plan, max_waiting: int | None) -> None:
        self._tasks = tasks
        self._plan = plan
        self._generation = fork.generation
        self._changes = Changes()
        self._renewing = anyio.Lock()
        self._left = False
        self._n = 0
        self._slots: list[Slot] = []
        self.restarts: int = 0
        self._requests = Requests(lambda: self._slots, self._check, self._changes, plan.grace, max_waiting)

    @property
    def workers(self) -> list[Worker]:
        """The workers that run now, without those that are being replaced."""
        workers = [slot.worker for slot in self._slots if slot.worker is not None and not slot.retired]
        return [worker for worker in workers if worker.returncode is None]

    async def wait_ready(self) -> None:
        """Wait until every worker has imported its function, and its `welcome` has returned.

        WorkerDied if a worker cannot be made ready, with the function's or `welcome`'s error as its `__cause__`, although it may be
        replaced; or if it ended and will not be replaced. ClosedResourceError if the pool is closing. Cancelled: nothing happened.
        """
        self._check()
        await self._ready(self._slots)

    async def _ready(self, slots: list[Slot]) -> None:
        came = {slot: slot.came for slot in slots}

        def settled() -> bool:
            return all(slot.settled or slot.came > came[slot] for slot in slots)

        await self._changes.until(lambda: self._left or settled() or any(slot.failure for slot in slots))
        self._check()
        for slot in slots:
            if slot.over and not slot.retired:
                raise WorkerDied("a worker of the pool has ended, and none will be started in its place") from slot.failure
            if slot.failure is not None and not slot.retired:
                raise WorkerDied(f"a worker of the pool ended before it was ready: {slot.failure}") from slot.failure

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
            await self._plan.spares.drop()
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

    async def request(self, data: Buffer, *, retries: int = 0, on_cancel: Literal["finish", "kill"] = "finish") -> bytes:
        """Send a message to a free worker, and return its answer: the next message that the worker sends.

        For functions that answer each message with one message. While all workers are busy or being replaced, the request waits,
        after the requests that wait already.

        Args:
            data: The message.
            retries: How many times the request goes to another worker, if its worker dies or the answer cannot be read.
            on_cancel: What a cancellation does after a part was sent. "finish": the worker carries the request out; its answer is
                dropped, and then the worker is free. "kill": the worker is killed (SIGKILL), and replaced at once.

        Raises:
            WorkerDied: The worker ended before it answered; it is unknown whether the request was carried out. Its `__cause__` is
                the error of the worker's function, if that raised. Or no worker will come back, or none can import its function.
            PoolBusy: `max_waiting` requests wait already. Nothing was sent.
            MessageTooLarge: Nothing was sent.
            ClosedResourceError: The pool is closing.

        Cancelled before anything was sent: nothing happened.
        """
        return await self._requests.ask(Request(data, kills=_kills(on_cancel)), retries)

    @overload
    async def run(
        self,
        function: Callable[[*Args], Coroutine[Any, Any, ResultT]],
        *args: *Args,
        on_cancel: Literal["finish", "kill"] = ...,
    ) -> ResultT: ...

    @overload
    async def run(
        self, function: Callable[[*Args], ResultT], *args: *Args, on_cancel: Literal["finish", "kill"] = ...
    ) -> ResultT: ...

    async def run(self, function: Callable[[*Args], Any], *args: *Args, on_cancel: Literal["finish", "kill"] = "finish") -> Any:
        """Run `function(*args)`, plain or async, in a free worker, and return its result: `await pool.run(fib, 30)`.

        Waits for a worker as `request` does. A worker whose function is busy begins when that next receives. Function, arguments,
        result and error are pickled as `spawn` does, each in one message of the channel's size.

        Args:
            function: A function at the top of a module, or of the main script. A plain one stops the worker's loop while it runs.
            *args: Its arguments; they must be picklable.
            on_cancel: As for `request`.

        Raises:
            TypeError: `function` or `args` cannot be pickled. Nothing was sent.
            WorkerFailed: The function's error cannot be pickled; or it called `sys.exit`.
            WorkerDied: As for `request`; the worker's own function may have ended, too.
            PoolBusy: As for `request`.
            MessageTooLarge: The arguments, or the result, are larger than a message.
            Exception: The function's own error, with the worker's traceback as its `__cause__`.

        Cancelled: as for `request`.
        """
        self._check()
        call = task_pickle.pack_request(function, args)
        report = await self._requests.ask(Request(call, call=True, kills=_kills(on_cancel)))
        value, error = task_pickle.unpack(report, task_pickle.called(function), "no report")
        if error is not None:
            raise error
        return value

    def statistics(self) -> PoolStatistics:
        """What the pool does now, and what it did."""
        self._check_fork()
        slots = [slot for slot in self._slots if slot.worker is not None]
        requests = self._requests
        return PoolStatistics(
            len(self.workers),
            sum(slot.busy for slot in slots),
            requests.waiting,
            requests.answered,
            self.restarts,
            *quantiles(requests.latencies, 0.5, 0.99),
        )

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

        await self._plan.spares.aclose()
        await terminate([worker.child for worker in workers], end_streams, self._plan.grace, gently=True)
        for slot in self._slots:
            if slot.worker is None:  # its `welcome` may still be waiting
                slot.end(slot.process)
        await self.wait()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield ""
        yield usable(self._left, self._generation).replace("closed", "closing")
        yield f"{counted(len(self.workers), 'worker') or 'no worker'} {[worker.pid for worker in self.workers]}"
        yield f"{sum(slot.busy for slot in self._slots)} busy"
        yield counted(self._requests.waiting, "waiting request")


def _kills(on_cancel: str) -> bool:
    if on_cancel not in _ON_CANCEL:
        raise ValueError(f"on_cancel={on_cancel!r}: must be 'finish' or 'kill'")
    return _ON_CANCEL[on_cancel]
