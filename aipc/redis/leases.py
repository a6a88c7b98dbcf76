"""The leases that a channel has: made to last while their blocks run."""

from __future__ import annotations

from functools import partial
from typing import Any

from aipc._io.loop import backend
from aipc._sys.clock import elapsed

from .consumer import Consumer
from .queue import RemoteJob

_RENEWALS = 3
"""Renewals in the time of a lease."""


class Leases:
    """Jobs that are leased, each of a queue. Made anew a third of the way to their end."""

    def __init__(self, consumer: Consumer, seconds: float) -> None:
        self._consumer = consumer
        self._queue = consumer.queue
        self._seconds = seconds
        self._jobs: dict[tuple[str, int], RemoteJob] = {}
        self._timer: backend.Timer | None = None
        self._asking = False

    def add(self, job: RemoteJob) -> None:
        """One more."""
        self._jobs[job.id, job.attempts] = job
        self._arm()

    def remove(self, job: RemoteJob) -> bool:
        """One less: whether it was there. The timer stays: the next job probably comes soon, and on trio a timer is a task."""
        return self._jobs.pop((job.id, job.attempts), None) is not None

    def has(self, job: RemoteJob) -> bool:
        """Whether its lease has certainly not ended."""
        return self._consumer.has(job, self._seconds)

    def clear(self) -> list[RemoteJob]:
        """None any more: those that were."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        self._disarm()
        return jobs

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = backend.call_later(self._queue.link.loop, self._seconds / _RENEWALS, self._renew)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _renew(self) -> None:
        self._timer = None
        if not self._jobs or self._queue.link.closed:
            return
        self._arm()
        if not self._asking:  # while the server is away, one is enough
            self._asking = True
            jobs = list(self._jobs.values())
            self._queue.link.tell(self._queue.renew(jobs), partial(self._renewed, jobs, elapsed()))

    def _renewed(self, jobs: list[RemoteJob], asked: float, reply: Any) -> None:
        self._asking = False
        if reply is None:
            return
        lost = [jobs[number] for number in reply]  # their blocks learn of it at their ends
        self._consumer.forget([job for job in lost if self.remove(job)])
        self._consumer.renewed(jobs, asked)
