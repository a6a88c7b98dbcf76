"""What the tasks of a loop wait for, read from their stacks when somebody asks: a wait itself notes nothing for it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import anyio

from aipc._io.waiter import Waiter
from aipc._sys.native import native

_NEXT = ("cr_await", "gi_yieldfrom", "ag_await")


class WaitingTask(NamedTuple):
    """A task that waits for an object of aipc's."""

    #: the task's name
    task: str
    #: the object, and until when the task waits
    purpose: str


def waiting_tasks() -> list[WaitingTask]:
    """Return the tasks of the running loop that wait for an object of aipc's, and for what.

    Not those inside an asynchronous generator, whose stack Python does not show. RuntimeError where no loop runs.
    """
    found = ((task.name or "", _waiter_of(task.coro)) for task in anyio.get_running_tasks())
    return [WaitingTask(name, waiter.purpose()) for name, waiter in found if waiter is not None]


def _waiter_of(frame: Any) -> Waiter | None:
    """The waiter of the `attempt` that a coroutine is in, or of its reception in C."""
    while frame is not None:
        if native is not None and isinstance(frame, native.Reception):
            return cast(Waiter | None, frame.waiter)
        if getattr(frame, "cr_code", None) is Waiter.attempt.__code__ and frame.cr_frame is not None:
            waiter: Waiter = frame.cr_frame.f_locals["self"]
            return waiter
        frame = next((getattr(frame, name) for name in _NEXT if hasattr(frame, name)), None)
    return None
