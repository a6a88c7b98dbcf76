"""The next jobs, each asked for together with the removal of one: a consumer that works off a queue saves a round trip."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

from aipc._io.loop import backend

from .queue import JobQueue, RemoteJob, jobs_of

_KEPT = 0.002
"""Seconds after which a job that nobody came for is given back, twice that at most. Meanwhile no block runs with it."""
_PAUSE = 32
"""Removals without a question, after one that was in vain."""


class Ahead:
    """Jobs of a queue, leased to this process, for whoever asks next: at most one for each block that ends at this moment.

    A task whose block ends probably comes for the next job. What is given back counts as no attempt.
    """

    def __init__(self, queue: JobQueue, lease: float) -> None:
        self._queue = queue
        self._lease = lease
        self._jobs: deque[tuple[float, RemoteJob]] = deque()  # when each came
        self._asked = 0
        self._pause = 0
        self._closed = False
        self._timer: backend.Timer | None = None

    def ask(self, ending: int) -> None:
        """Ask for one together with the next command, while so many blocks end."""
        if self._pause:
            self._pause -= 1
        elif len(self._jobs) + self._asked < ending:
            self._asked += 1
            self._queue.link.tell(self._queue.take(1, self._lease, waits=False), self._came, with_next=True)

    def _came(self, reply: Any) -> None:
        self._asked -= 1
        jobs = jobs_of(reply)
        if not jobs:
            self._pause = _PAUSE
        elif self._closed:
            self._queue.regret(reply)
        else:
            self._jobs.append((monotonic(), jobs[0]))
            self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = backend.call_later(self._queue.link.loop, _KEPT, self._looks)

    def _looks(self) -> None:
        self._timer = None
        self._give_back_since(monotonic() - _KEPT)
        if self._jobs:
            self._arm()

    def take(self) -> RemoteJob | None:
        """The oldest job, if there is one, and new: a process that was stopped may have lost it."""
        self._give_back_since(monotonic() - self._lease / 10)
        return self._jobs.popleft()[1] if self._jobs else None

    def give_back(self) -> None:
        """Let others have them, as if they had never been leased."""
        self._give_back_since(monotonic())

    def _give_back_since(self, latest: float) -> None:
        """Those that came at that time or before."""
        jobs = []
        while self._jobs and self._jobs[0][0] <= latest:
            jobs.append(self._jobs.popleft()[1])
        if jobs and not self._queue.link.closed:
            self._pause = _PAUSE
            self._queue.link.tell(self._queue.give_back(jobs, 0, counted=False))

    def close(self) -> None:
        """None any more."""
        self._closed = True
        self.give_back()
        if self._timer is not None:
            self._timer.cancel()
