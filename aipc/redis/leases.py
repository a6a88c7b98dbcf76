"""The leases that a channel has: made to last while their blocks run."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any

from aipc._io.loop import backend

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
        self._jobs: dict[str, RemoteJob] = {}
        self._timer: backend.Timer | None = None
        self._asking = False

    def add(self, job: RemoteJob) -> None:
        """One more."""
        self._jobs[job.id] = job
        self._arm()

    def remove(self, job: RemoteJob) -> bool:
        """One less: whether it was there. The timer stays: the next job probably comes soon, and on trio a timer is a task."""
        return self._jobs.pop(job.id, None) is not None

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
            self._queue.link.tell(self._queue.renew(jobs), partial(self._renewed, jobs, monotonic()))

    def _renewed(self, jobs: list[RemoteJob], asked: float, reply: Any) -> None:
        self._asking = False
        if reply is None:
            return
        lost = [self._jobs.pop(name.decode(), None) for name in reply]  # its block learns of it at its end
        self._consumer.forget([job for job in lost if job is not None])
        self._consumer.renewed(jobs, asked)
