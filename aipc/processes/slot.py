"""A worker's slot in a pool: the present worker, and the one that replaces it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from aipc._open import Opening
from aipc.exceptions import WorkerDied

from .backoff import Backoff
from .changes import Changes
from .worker import Worker

_logger = logging.getLogger("aipc")
Welcome = Callable[[Worker], Awaitable[object]]


class Plan(NamedTuple):
    """How the workers of a pool are started and replaced."""

    start: Callable[[], Opening[Worker]]
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
    """

    __slots__ = ("_changes", "_life", "_plan", "_retired", "busy", "over", "process", "worker")

    def __init__(self, plan: Plan, changes: Changes) -> None:
        self._plan = plan
        self._changes = changes
        self._retired = anyio.Event()
        self._life = anyio.CancelScope()
        self.worker: Worker | None = None
        self.process: Worker | None = None
        self.busy: bool = False
        self.over: bool = False

    @property
    def retired(self) -> bool:
        """Whether its worker gets no successor and no more requests."""
        return self._retired.is_set()

    @property
    def settled(self) -> bool:
        """Whether its worker is ready, or none will come."""
        return self.worker is not None or self.over or self.retired

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

    async def keep(self, restarted: Callable[[], None]) -> None:
        """Run one worker after another, as long as the plan allows it and until this slot is retired."""
        backoff = self._plan.backoff()
        try:
            while not self.retired:
                began = anyio.current_time()
                if not self._plan.replaces(succeeded=await self._run()):
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
        try:
            async with self._plan.start() as worker:
                self.process = worker
                with anyio.CancelScope() as self._life:
                    await self._live(worker)
            await worker.result()
        except Exception as error:
            if not self.retired:
                trace = None if isinstance(error, WorkerDied) else error
                _logger.error("a worker of the pool failed: %s", error, exc_info=trace)  # noqa: TRY400
            return False
        finally:
            self.process = None
        return True

    async def _live(self, worker: Worker) -> None:
        if self._plan.welcome is not None:
            await self._plan.welcome(worker)
        self.worker, self.busy = worker, False
        self._changes.tell()
        try:
            await worker.wait()
            with anyio.move_on_after(self._plan.grace):  # its last messages can still be received
                await self._changes.until(lambda: not self.busy)
        finally:
            self.worker = None
            self._changes.tell()
