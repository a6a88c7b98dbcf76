"""A worker's slot in a pool: the present worker, and the one that replaces it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from aipc.exceptions import WorkerDied

from ..backoff import Backoff
from ..changes import Changes
from ..workers.worker import Worker
from .spares import Spares, asking

_logger = logging.getLogger("aipc")
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""Errors of a channel whose worker has ended, or closed it."""
Welcome = Callable[[Worker], Awaitable[object]]


class Plan(NamedTuple):
    """How the workers of a pool are started and replaced."""

    spares: Spares
    welcome: Welcome | None
    backoff: Callable[[], Backoff]
    restart: str
    grace: float

    def replaces(self, *, succeeded: bool) -> bool:
        """Whether a worker that ended this way is replaced."""
        return self.restart == "always" or (self.restart == "on-failure" and not succeeded)


class Slot:
    """Keeps one worker running. Only the slot's own task starts and closes workers; other tasks tell it to.

    worker      the worker that takes requests, or None
    process     the same worker, also while it is being welcomed or ended
    busy        whether it works at a request, also one that was cancelled
    over        whether the slot runs no worker and never will
    came        the number of workers that became ready
    failure     why no worker becomes ready: the error of the last one; None if nothing is wrong
    """

    __slots__ = (
        "_changes",
        "_in_a_row",
        "_killed",
        "_life",
        "_plan",
        "_retired",
        "busy",
        "came",
        "failure",
        "over",
        "process",
        "worker",
    )

    def __init__(self, plan: Plan, changes: Changes) -> None:
        self._plan = plan
        self._changes = changes
        self._retired = anyio.Event()
        self._life = anyio.CancelScope()
        self.worker: Worker | None = None
        self.process: Worker | None = None
        self._killed = False
        self._in_a_row = 0
        self.busy: bool = False
        self.over: bool = False
        self.came: int = 0
        self.failure: Exception | None = None

    @property
    def retired(self) -> bool:
        """Whether its worker gets no successor and no more requests."""
        return self._retired.is_set()

    @property
    def settled(self) -> bool:
        """Whether its worker is ready, or none will come."""
        runs = self.worker is not None and self.worker.returncode is None  # else the slot's task has not noticed its end yet
        return runs or self.over or self.retired

    def free_worker(self) -> Worker | None:
        """The worker, if it could take a request now."""
        free = self.worker is not None and not (self.busy or self.retired) and self.worker.returncode is None
        return self.worker if free else None

    def release(self, worker: Worker) -> None:
        """Mark the worker as free: its request was answered, or never sent."""
        if self.worker is worker:
            self.busy = False
            self._changes.tell()

    def retire(self) -> None:
        """Start no successor. The present worker runs until `end`."""
        self._retired.set()
        self._changes.tell()

    def end(self, worker: Worker | None, *, at_once: bool = False) -> None:
        """End this worker: close its channel, later use force; `at_once`: begin with SIGTERM. It gets no more requests."""
        if worker is not None and self.process is worker:
            self.worker, self.busy = None, False
            if at_once:
                worker.terminate()
            self._life.cancel()
            self._changes.tell()

    def kill(self, worker: Worker) -> None:
        """Kill this worker, because nobody needs what it does. It is replaced at once, whatever the plan says."""
        if self.process is worker:
            self._killed = True
            worker.kill()
            self.end(worker)

    async def keep(self, restarted: Callable[[], None]) -> None:
        """Run one worker after another, as long as the plan allows it and until this slot is retired."""
        backoff = self._plan.backoff()
        try:
            while not self.retired:
                began = anyio.current_time()
                self._killed = False
                succeeded = await self._run()
                if not self._killed:
                    if not self._plan.replaces(succeeded=succeeded):
                        break
                    with anyio.move_on_after(backoff.after(anyio.current_time() - began)):
                        await self._retired.wait()
                if not self.retired:
                    restarted()
        finally:
            self.over = True
            self._changes.tell()

    async def _run(self) -> bool:
        """Run one worker until it ends; return whether its function returned."""
        came = self.came
        try:
            async with await self._plan.spares.take() as worker:
                self.process = worker
                with anyio.CancelScope() as self._life:
                    await self._live(worker)
            await worker.result()
        except Exception as error:
            if self.came == came:
                self._note_failure(error)
            if not (self.retired or self._killed):
                trace = None if isinstance(error, WorkerDied) else error
                _logger.error("a worker of the pool failed: %s", error, exc_info=trace)  # noqa: TRY400
            return False
        finally:
            self.process = None
        return True

    def _note_failure(self, error: Exception) -> None:
        """A worker ended before it was ready. One that was killed may have had bad luck, the second one in a row had not."""
        self._in_a_row += 1
        if self._in_a_row > 1 or not isinstance(error, WorkerDied):
            self.failure = error
            self._changes.tell()

    async def _live(self, worker: Worker) -> None:
        try:
            asking(worker).begin()
            await asking(worker).wait_imported()
        except GONE:  # leaving the worker's block says why
            return
        if self._plan.welcome is not None:
            await self._plan.welcome(worker)
        self.worker, self.busy = worker, False
        self.failure, self._in_a_row = None, 0
        self.came += 1
        self._changes.tell()
        try:
            await worker.wait()
            with anyio.move_on_after(self._plan.grace):  # its last messages can still be received
                await self._changes.until(lambda: not self.busy)
        finally:
            self.worker = None
