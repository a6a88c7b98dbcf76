"""A worker's place in a pool: the worker that has it, and the one that replaces it."""

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
        """Whether a worker that ended so gets a successor."""
        return self.restart == "always" or (self.restart == "on-failure" and not succeeded)


class Slot:
    """Keeps one worker running. Its task is the only one that starts and closes workers; others tell it to.

    worker      the one that takes requests, if there is one
    process     the same, also while it is welcomed or ended
    busy        whether it is at a request, or at one that was cancelled
    over        whether it runs no worker, and never will
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
        """Whether it gets no successor, and no more requests."""
        return self._retired.is_set()

    @property
    def settled(self) -> bool:
        """Whether its worker is there, or none is to be waited for."""
        return self.worker is not None or self.over or self.retired

    def free_worker(self) -> Worker | None:
        """One that could take a request now."""
        free = self.worker is not None and not (self.busy or self.retired) and self.worker.returncode is None
        return self.worker if free else None

    def release(self, worker: Worker) -> None:
        """Its request is answered, or was never sent."""
        if self.worker is worker:
            self.busy = False
            self._changes.tell()

    def retire(self) -> None:
        """No successor. The worker that is there goes on, until `end`."""
        self._retired.set()
        self._changes.tell()

    def end(self, worker: Worker | None, *, at_once: bool = False) -> None:
        """Let this worker end: by the end of its channel, and then by force; `at_once`: by SIGTERM. It gets no more requests."""
        if worker is not None and self.process is worker:
            self.worker, self.busy = None, False
            if at_once:
                worker.terminate()
            self._life.cancel()
            self._changes.tell()

    async def keep(self, restarted: Callable[[], None]) -> None:
        """Run one worker after the other, as long as the plan wants it and until this slot is retired."""
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
        """One worker's life: whether its function returned."""
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
            with anyio.move_on_after(self._plan.grace):  # what it sent at last is still to be received
                await self._changes.until(lambda: not self.busy)
        finally:
            self.worker = None
            self._changes.tell()
