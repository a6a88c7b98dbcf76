"""Cancel an operation exactly where it hurts: at its n-th await, or in the very loop pass in which that await is over.

Public as `aipc.testing.inject`; it stands here because it looks into the backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import Any, TypeVar

from . import backend

Result = TypeVar("Result")


class Moment(Enum):
    """When to cancel, relative to the chosen await."""

    AWAIT = "while the operation waits there"
    READINESS = "when what it waited for has come, and before it runs again (asyncio; on trio that moment does not exist)"


class Cancelled(Enum):
    """The one value CANCELLED."""

    CANCELLED = "the operation was cancelled"


CANCELLED = Cancelled.CANCELLED


async def inject(
    operation: Coroutine[Any, Any, Result],
    at: int,
    moment: Moment = Moment.AWAIT,
    suspended: Callable[[int, bool], object] = lambda number, parked: None,
) -> Result | Cancelled:
    """Run `operation` and cancel it at its await number `at` (from 0): its result, if it ended before, or CANCELLED.

    `suspended(number, parked)` is called at each await, just before the operation sleeps: the place to make happen what it
    waits for. `parked` tells a sleep until then from a mere turn of the loop.
    """
    if backend.in_trio():
        return await _inject_in_trio(operation, at, suspended)
    return await _inject_in_asyncio(operation, at, moment, suspended)


class _Driven(Awaitable[Result]):
    """Passes an operation's awaits on to the loop, and tells of each."""

    def __init__(self, operation: Coroutine[Any, Any, Result], suspended: Callable[[int, Any], None]) -> None:
        self._operation = operation
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, Result]:
        number = 0
        step = self._operation.send
        value: Any = None
        while True:
            try:
                request = step(value)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            self._suspended(number, request)
            number += 1
            try:
                value = yield request
                step = self._operation.send
            except BaseException as error:  # noqa: BLE001 - whatever the loop throws is the operation's to see
                step, value = self._operation.throw, error


async def _inject_in_asyncio(
    operation: Coroutine[Any, Any, Result], at: int, moment: Moment, suspended: Callable[[int, bool], object]
) -> Result | Cancelled:
    async def run() -> Result:
        return await _Driven(operation, watch)

    def watch(number: int, request: Any) -> None:
        if number == at and moment is Moment.READINESS and isinstance(request, asyncio.Future):
            request.add_done_callback(lambda _: task.cancel())  # runs before the task's own wake-up: it was first
        parked = isinstance(request, asyncio.Future)
        suspended(number, parked)
        if number == at and not (moment is Moment.READINESS and parked):
            task.get_loop().call_soon(task.cancel)

    task = asyncio.get_running_loop().create_task(run())
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelled():
            task.cancel()
            raise
        return CANCELLED


async def _inject_in_trio(
    operation: Coroutine[Any, Any, Result], at: int, suspended: Callable[[int, bool], object]
) -> Result | Cancelled:
    import trio

    def watch(number: int, request: Any) -> None:
        suspended(number, hasattr(request, "abort_func"))  # trio's trap for sleeping, not the one for a checkpoint
        if number == at:
            scope.cancel()

    with trio.CancelScope() as scope:
        return await _Driven(operation, watch)
    return CANCELLED
