"""The requests of a pool: each waits for a free worker, in order, and is matched with its answer."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import anyio

from aipc._io.loop import backend
from aipc.abc import Buffer
from aipc.exceptions import PoolBusy, ProtocolError, WorkerDied

from ..changes import Changes
from ..workers.worker import Worker
from .slot import GONE, Slot
from .spares import asking

_logger = logging.getLogger("aipc")
_LATENCIES = 1_000


class Request(NamedTuple):
    """What is sent, and what a cancellation does.

    call    whether the worker's end runs it (`Pool.run`), and not its function
    kills   whether its cancellation kills the worker
    """

    data: Buffer
    call: bool = False
    kills: bool = False


class Requests:
    """Requests and their answers. `slots` and `check` are the pool's: its present slots; an error if it is closing.

    waiting     the number of requests that have no worker yet
    latencies   the seconds that each of the last requests took, its waiting included
    """

    def __init__(
        self, slots: Callable[[], Sequence[Slot]], check: Callable[[], None], changes: Changes, grace: float, limit: int | None
    ) -> None:
        self._slots = slots
        self._check = check
        self._changes = changes
        self._grace = grace
        self._limit = limit
        self._line = anyio.Lock(fast_acquire=True)  # they get a worker in this order
        self.waiting: int = 0
        self.answered: int = 0
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)

    async def ask(self, request: Request, retries: int = 0) -> bytes:
        """Send a request to a free worker; return its answer. Errors and cancellation: see `Pool.request`."""
        self._check()
        self._check_limit()
        began = perf_counter()
        while True:
            slot, worker = await self._worker()
            try:
                answer = await self._exchange(slot, worker, request)
            except WorkerDied:
                if retries <= 0:
                    raise
                retries -= 1
            else:
                self.answered += 1
                self.latencies.append(perf_counter() - began)
                return answer

    def _check_limit(self) -> None:
        limit, waiting = self._limit, self.waiting
        if limit is not None and waiting >= limit and (waiting or not any(slot.free_worker() for slot in self._slots())):
            raise PoolBusy(f"all workers are busy, and {waiting} requests wait; max_waiting is {limit}")

    async def _worker(self) -> tuple[Slot, Worker]:
        self.waiting += 1
        try:
            async with self._line:
                return await self._free_worker()
        finally:
            self.waiting -= 1

    async def _free_worker(self) -> tuple[Slot, Worker]:
        """Return a free worker, marked as busy."""
        while True:
            self._check()
            slots = self._slots()
            for slot in slots:
                worker = slot.free_worker()
                if worker is not None:
                    slot.busy = True
                    return slot, worker
            _check_hope(slots)
            await self._changes.next()

    async def _exchange(self, slot: Slot, worker: Worker, request: Request) -> bytes:
        channel = asking(worker)
        try:
            await channel.ask(request.data, call=request.call)
        except GONE as error:
            raise await self._lost(slot, worker, error) from worker.error
        except BaseException:  # nothing was sent
            slot.release(worker)
            raise
        try:
            answer = await channel.answer()
        except Exception as error:  # noqa: BLE001 - any error ends this worker only
            raise await self._lost(slot, worker, error) from worker.error or error
        except BaseException:
            self._give_up(slot, worker, request)
            raise
        slot.release(worker)
        return answer

    def _give_up(self, slot: Slot, worker: Worker, request: Request) -> None:
        """Nobody waits for the answer any more."""
        if request.kills:
            slot.kill(worker)
        elif backend.running():  # otherwise the loop is closing
            backend.start_soon(self._drop_answer, slot, worker)

    async def _drop_answer(self, slot: Slot, worker: Worker) -> None:
        try:
            await asking(worker).answer()
        except Exception as error:  # noqa: BLE001 - any error ends this worker only
            self._end(slot, worker, error)
        else:
            slot.release(worker)

    async def _lost(self, slot: Slot, worker: Worker, error: Exception) -> WorkerDied:
        """End a worker whose answer is missing or unreadable; return the error for its request. Then `worker.error` is known."""
        died = self._end(slot, worker, error)
        if died is not None:
            return died
        with anyio.move_on_after(self._grace):
            await worker.wait()
        return WorkerDied(f"worker {worker.pid}: gone before it answered ({worker.outcome})")

    def _end(self, slot: Slot, worker: Worker, error: Exception) -> WorkerDied | None:
        if isinstance(error, GONE) and not isinstance(error, ProtocolError):
            slot.end(worker)  # perhaps only its channel is closed
            return None
        slot.end(worker, at_once=True)
        died = WorkerDied(f"worker {worker.pid}: ended, because its answer can't be read: {error}")
        _logger.error("a worker of the pool failed: %s", died)
        return died


def _check_hope(slots: Sequence[Slot]) -> None:
    """WorkerDied if no worker will come, or none can be made ready."""
    slots = [slot for slot in slots if not slot.retired]
    failures = [slot.failure for slot in slots if slot.failure is not None]
    if all(slot.over for slot in slots):
        raise WorkerDied("no worker of the pool runs, and none will be started again") from next(iter(failures), None)
    if len(failures) == len(slots):
        raise WorkerDied(f"no worker of the pool can be made ready: {failures[0]}") from failures[0]
