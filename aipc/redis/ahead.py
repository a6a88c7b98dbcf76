"""The next job, asked for together with the removal of the last one: a consumer that works off a queue saves a round trip."""

from __future__ import annotations

from time import monotonic
from typing import Any

from aipc._io.loop import backend

from .queue import JobQueue, RemoteJob, jobs_of

_KEPT = 0.002
"""Seconds after which a job that nobody came for is given back. Meanwhile no block runs with it, and no attempt counts."""
_PAUSE = 32
"""Removals without a question, after one that was in vain."""


class Ahead:
    """At most one job of a queue, leased to this process, for whoever asks next."""

    def __init__(self, queue: JobQueue, lease: float) -> None:
        self._queue = queue
        self._lease = lease
        self._job: RemoteJob | None = None
        self._came_at = 0.0
        self._asked = False
        self._pause = 0
        self._closed = False
        self._timer: backend.Timer | None = None

    def ask(self) -> None:
        """Ask together with the next command."""
        if self._pause:
            self._pause -= 1
        elif self._job is None and not self._asked:
            self._asked = True
            self._queue.link.tell(self._queue.take(1, self._lease, waits=False), self._came, with_next=True)

    def _came(self, reply: Any) -> None:
        self._asked = False
        jobs = jobs_of(reply)
        if not jobs:
            self._pause = _PAUSE
        elif self._closed:
            self._queue.regret(reply)
        else:
            self._job, self._came_at = jobs[0], monotonic()
            self._timer = backend.call_later(self._queue.link.loop, _KEPT, self.give_back)

    def take(self) -> RemoteJob | None:
        """The job, if it is there, and new: a process that was stopped may have lost it."""
        if self._job is None:
            return None
        if monotonic() - self._came_at > self._lease / 10:
            self.give_back()
            return None
        return self._pop()

    def give_back(self) -> None:
        """Let others have it, as if it had never been leased."""
        job = self._pop()
        if job is not None and not self._queue.link.closed:
            self._pause = _PAUSE
            self._queue.link.tell(self._queue.give_back([job], 0, counted=False))

    def _pop(self) -> RemoteJob | None:
        job, self._job = self._job, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return job

    def close(self) -> None:
        """None any more."""
        self._closed = True
        self.give_back()
