"""`aipc.stop_children`: ending several children at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from aipc._child.process import Child
from aipc._child.termination import GRACE, terminate
from aipc.transports.process import ProcessChannel

from .pipeline import Pipeline
from .workers.worker import Worker

Stoppable = TypeVar("Stoppable", bound=ProcessChannel | Pipeline | Worker)


async def stop_children(*children: Stoppable, grace: float = GRACE) -> list[Stoppable]:
    """Send SIGTERM to all children, wait `grace` seconds, send SIGKILL to those that still run; return those that got SIGKILL.

    Children are what `popen`, `pipeline` and `spawn` return. The signals go to the whole process group of a child that leads one.
    When this returns or raises, all children have ended and are reaped. Cancelled: the children still have their `grace`, and
    the cancellation is raised after that.
    """
    processes = [process for one in children for process in processes_of(one)]
    try:
        await terminate(processes, lambda: None, grace, gently=False)
    finally:
        for one in children:
            await one.aclose()
    return [one for one in children if any(process.forced for process in processes_of(one))]


def processes_of(one: ProcessChannel | Pipeline | Worker) -> Sequence[Child]:
    """The processes of a child: several, if it is a pipeline."""
    return one.processes if isinstance(one, Pipeline) else [one.child]
