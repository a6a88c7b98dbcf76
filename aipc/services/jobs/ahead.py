"""The next job, leased together with the removal of the last one: a consumer that works off a queue needs one transaction a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from typing import Any

from aipc._io.loop import backend

from .requests import Step
from .tables import Job, NewJob, Selection

_KEPT = 0.01
"""Seconds after which a job that no task asked for is given back. Meanwhile no block runs with it."""
_PAUSE = 32
"""Removals that bring no job along, after one whose job nobody asked for, or that found none."""


class Ahead:
    """The jobs of one channel that are leased for its next leases: at most one for each lease that has just ended.

    `kept_by` is told when there are some, and calls `look` now and then from its thread: the channel's loop may be busy, or over.
    """

    def __init__(self, submit: Callable[[Step[Any]], None], kept_by: Callable[[Ahead], None]) -> None:
        self._submit = submit
        self._kept_by = kept_by
        self._changing = Lock()
        self._jobs: deque[tuple[float, Job]] = deque()
        self._selection = Selection()
        self._pause = 0
        self._timer: backend.Timer | None = None
        self._loop: object = None  # of the timer

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def wanted(self, selection: Selection) -> Selection | None:
        """What the removal of a job should bring along."""
        if selection.dead or (self._jobs and selection != self._selection):
            return None
        if self._pause:
            self._pause -= 1
            return None
        return selection

    def came(self, selection: Selection, job: Job | None) -> None:
        """Keep what a removal has brought along, for a moment."""
        if job is None:
            self._pause = _PAUSE
            return
        with self._changing:
            if selection != self._selection:
                self._give_back()
            self._selection = selection
            self._jobs.append((monotonic(), job))
        self._kept_by(self)
        self._set_timer()

    def take(self, selection: Selection) -> Job | None:
        """The oldest of them; if another choice is wanted, they are given back."""
        with self._changing:
            if selection != self._selection:
                self._give_back()
            return self._jobs.popleft()[1] if self._jobs else None

    def sent(self, jobs: Iterable[NewJob]) -> None:
        """The channel has sent these. If one of them comes before those that are kept, these are given back."""
        if self._jobs:
            with self._changing:
                last = max((self._rank(job) for _, job in self._jobs), default=(0, 0))
                if any(self._rank(job) < last for job in jobs):
                    self._give_back()

    def look(self) -> None:
        """Give back what was kept for too long."""
        with self._changing:
            if self._jobs and monotonic() - self._jobs[0][0] >= _KEPT / 2:
                self._pause = _PAUSE
                self._give_back()

    def give_back(self) -> None:
        """Let others have them, as if they had never been leased."""
        if self._jobs:
            with self._changing:
                self._give_back()

    def close(self) -> None:
        """Keep no more."""
        self.give_back()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_back(self) -> None:
        jobs = [job for _, job in self._jobs]
        self._jobs.clear()
        if jobs:
            self._submit(Step(lambda tables: tables.give_back(jobs, counted=False)))

    def _rank(self, job: Job | NewJob) -> tuple[int, int]:
        return job.type if self._selection.type < 0 else 0, -job.priority

    def _set_timer(self) -> None:
        loop = backend.current()
        if self._timer is None or self._loop is not loop:  # the loop of an earlier one may be over
            self._loop = loop
            self._timer = backend.call_later(loop, _KEPT, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self.look()
        if self._jobs:
            self._set_timer()
