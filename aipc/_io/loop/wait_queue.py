"""A queue of parked tasks, on each event loop."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

from . import backend


class WaitQueue:
    """Parked tasks, the longest waiting first: futures on asyncio, tasks on trio.

    A woken task tries again what it waits for, so one wake-up too many costs only time. Most queues have one task at most, and
    a server has thousands of queues: only a second task takes a table.
    """

    __slots__ = ("_first", "_others")

    def __init__(self) -> None:
        self._first: Any = None
        self._others: OrderedDict[Any, None] | None = None

    async def queue(self) -> None:
        """Park until woken. Cancelled: nothing happened."""
        place = self._queue_in(backend.current(), front=False)
        try:
            await place
        finally:
            self._discard(place)

    def _queue_in(self, loop: object, *, front: bool) -> Awaitable[bool]:
        """A place in the queue, in that loop (`current`): gives whether to take the first place if the next try is in vain."""
        if not isinstance(loop, asyncio.AbstractEventLoop):
            return self._queue_in_trio(front=front)
        future: asyncio.Future[bool] = loop.create_future()
        if self._first is None:
            self._first = future
        else:
            self._add(future, front=front)
        return future

    async def _queue_in_trio(self, *, front: bool) -> bool:
        import trio

        task = trio.lowlevel.current_task()
        self._add(task, front=front)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._discard(task)
            return trio.lowlevel.Abort.SUCCEEDED

        return bool(await trio.lowlevel.wait_task_rescheduled(abort))

    def _add(self, waiter: Any, *, front: bool) -> None:
        if self._first is None:
            self._first = waiter
            return
        if self._others is None:
            self._others = OrderedDict()
        if front:
            self._first, waiter = waiter, self._first
        self._others[waiter] = None
        self._others.move_to_end(waiter, last=not front)

    def _discard(self, waiter: Any) -> None:
        if waiter is self._first:
            self._pop()
        elif self._others is not None:
            self._others.pop(waiter, None)

    def _pop(self) -> Any:
        first, others = self._first, self._others
        self._first = others.popitem(last=False)[0] if others else None
        return first

    @property
    def waiting(self) -> int:
        """The number of tasks that are parked here."""
        waiters = (self._first, *(self._others or ()))
        return sum(waiter is not None and not (isinstance(waiter, asyncio.Future) and waiter.done()) for waiter in waiters)

    def wake(self) -> None:
        """Let the task that has waited longest try again; if in vain, it keeps its place. One whose loop is closed is skipped."""
        first = self._first
        if not self._others:
            self._first = None
            if first is not None:
                _resume(first, front=True)
            return
        while self._first is not None and not _resume(self._pop(), front=True):
            pass

    def wake_all(self) -> None:
        """Let every parked task try again, in order."""
        while self._first is not None:
            _resume(self._pop(), front=False)


def _resume(waiter: Any, *, front: bool) -> bool:
    """Whether that task runs again."""
    if isinstance(waiter, asyncio.Future):
        if waiter.done():
            return False
        try:
            waiter.set_result(front)
        except RuntimeError:  # its loop is closed
            return False
        return True
    sys.modules["trio"].lowlevel.reschedule(waiter, sys.modules["outcome"].Value(front))
    return True
