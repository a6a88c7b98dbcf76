"""Serving many requests in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, cast

from .requests import Done, Put, Request, Step, Take
from .tables import Job, Tables

_MOST = 100
"""The most jobs that are leased at once."""


@dataclass
class Served:
    """The result. `readied` and `room` are left for other processes; `took` and `put` say which of their calls were useful."""

    requests: list[Request[Any]] = field(default_factory=list)
    readied: int = 0
    room: int = 0
    took: int = 0
    put: int = 0
    all_look: bool = False


def serve(tables: Tables, claimed: Sequence[Request[Any]], owner: Callable[[], int], *, removes: bool) -> Served:
    """Do what can be done of `claimed`, in which requests with the same key are together: steps, puts, takes.

    `removes`: takes that remove may do so at once, because their caller cannot be cancelled before it has the jobs.
    """
    served = Served()
    for _, group in groupby(claimed, key=lambda request: request.key):
        requests = list(group)
        _do_steps(tables, [request for request in requests if isinstance(request, Step)], served, owner)
        _do_puts(tables, [request for request in requests if isinstance(request, Put)], served)
        _do_takes(tables, [request for request in requests if isinstance(request, Take)], served, owner)
    for take in served.requests if removes else ():
        if isinstance(take, Take) and take.removes:
            tables.done(take.result())
            take.removed = True
    served.readied = max(tables.readied - served.took, 0)
    served.all_look = tables.all_look
    served.room = max(tables.room - served.put, 0)
    return served


def _do_steps(tables: Tables, steps: Sequence[Step[Any]], served: Served, owner: Callable[[], int]) -> None:
    for kind, group in groupby(steps, key=type):
        if kind is Done:
            dones = cast(list[Done], [*group])
            _do_done(tables, dones)
            served.took += _take_next(tables, dones, owner)
            continue
        for step in group:
            step.value = step.run(tables)
    served.requests += steps


def _do_done(tables: Tables, steps: Sequence[Done]) -> None:
    lost = tables.done([job for step in steps for job in step.jobs])
    for step in steps:
        step.value = [job for job in step.jobs if job in lost] if lost else []


def _take_next(tables: Tables, steps: Sequence[Done], owner: Callable[[], int]) -> int:
    """Lease a job for each that wants one; their number. None where attempts are limited: nobody may ask for the job."""
    if tables.max_attempts:
        return 0
    took = 0
    for selection, group in groupby(steps, key=lambda step: step.then):
        if selection is None:
            continue
        wanting = [*group]
        jobs = tables.take(selection, min(len(wanting), _MOST), owner())
        took += len(jobs)
        for step, job in zip(wanting, jobs, strict=False):
            step.next = job
    return took


def _do_puts(tables: Tables, puts: Sequence[Put], served: Served) -> None:
    if not puts:
        return
    left = served.put = tables.put(list(chain.from_iterable(put.jobs for put in puts)))
    for put in puts:
        put.value = min(left, len(put.jobs))
        if not put.value:
            return
        left -= put.value
        served.requests.append(put)


def _do_takes(tables: Tables, takes: Sequence[Take], served: Served, owner: Callable[[], int]) -> None:
    if not takes:
        return
    wanted = min(sum(take.most for take in takes), _MOST)
    jobs = tables.take(takes[0].selection, wanted, owner())
    served.took += len(jobs)
    for take in takes:
        if not jobs:
            return
        take.value, jobs = _share(jobs, take.most)
        served.requests.append(take)


def _share(jobs: list[Job], most: int) -> tuple[list[Job], list[Job]]:
    return jobs[:most], jobs[most:]
