"""The seam to the event loops: which one runs, a turn of it, its timer, and a queue of parked tasks.

`asyncio` stands for uvloop too: both run the same tasks and futures.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import types
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Protocol, TypeVar, TypeVarTuple

import anyio

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


_logger = logging.getLogger("aipc")


def in_trio() -> bool:
    """Whether trio runs this code, also in its guest mode, inside an asyncio loop. A callback of asyncio's is asyncio's."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)  # None, too, while another thread imports trio
    return lowlevel is not None and (
        lowlevel.in_trio_task() or (asyncio._get_running_loop() is None and lowlevel.in_trio_run())
    )


NAMES = ("asyncio", "uvloop", "trio")


def running_name() -> str:
    """Which of `NAMES` runs this code."""
    if in_trio():
        return "trio"
    return "uvloop" if type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop" else "asyncio"


def run(name: str, function: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """Run `function` on a new loop of that name until it returns."""
    if name == "trio":
        return anyio.run(function, *arguments, backend="trio")
    return anyio.run(function, *arguments, backend_options={"use_uvloop": name == "uvloop"})


@types.coroutine
def _asyncio_turn() -> Generator[None, None, None]:
    yield


def checkpoint_function() -> Callable[[], Awaitable[None]]:
    """A function to await for one turn of this loop, in which all else that is ready runs; a cancellation point."""
    checkpoint: Callable[[], Awaitable[None]] = sys.modules["trio"].lowlevel.checkpoint if in_trio() else _asyncio_turn
    return checkpoint


def current() -> object:
    """What stands for the loop that runs here: asyncio's loop, or trio's token."""
    if in_trio():
        return sys.modules["trio"].lowlevel.current_trio_token()
    return asyncio.get_running_loop()


class Timer(Protocol):
    """Something that is to happen later."""

    def cancel(self) -> None: ...


class _TrioTimer:
    def __init__(self) -> None:
        self._scope = sys.modules["trio"].CancelScope()
        self.cancel = self._scope.cancel

    async def run(self, seconds: float, function: Callable[[], None]) -> None:
        with self._scope:
            await sys.modules["trio"].sleep(seconds)
            call_all([function])


def call_all(calls: Iterable[Callable[[], object]]) -> None:
    """Make each call; one that raises is logged, and harms no other."""
    for call in calls:
        try:
            call()
        except Exception:
            _logger.exception("a callback failed")


def call_later(loop: object, seconds: float, function: Callable[[], None]) -> Timer:
    """Call `function` on that loop, which is the one that runs here, by its own timer: it may be a millisecond late."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.call_later(seconds, function)
    timer = _TrioTimer()
    sys.modules["trio"].lowlevel.spawn_system_task(timer.run, seconds, function)
    return timer


_background: set[asyncio.Task[None]] = set()


def running() -> bool:
    """Whether an event loop runs here."""
    return asyncio._get_running_loop() is not None or ("trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run())


def start_soon(function: Callable[[*Arguments], Coroutine[Any, Any, None]], *arguments: *Arguments) -> None:
    """Run `function` in the background until it ends or the loop does. It must not raise."""
    if in_trio():
        sys.modules["trio"].lowlevel.spawn_system_task(function, *arguments)
        return
    task = asyncio.get_running_loop().create_task(function(*arguments))
    _background.add(task)
    task.add_done_callback(_background.discard)


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
        place = self._queue_in(current(), front=False)
        try:
            await place
        finally:
            self._discard(place)

    def _queue_in(self, loop: object, *, front: bool) -> Awaitable[bool]:
        """A place in the queue, in that loop (`current`): gives whether to take the first place if the next try is in vain."""
        if isinstance(loop, asyncio.AbstractEventLoop):
            return self._queue_on(loop, front=front)
        return self._queue_in_trio(front=front)

    def _queue_on(self, loop: asyncio.AbstractEventLoop, *, front: bool) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = loop.create_future()
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
        if front:
            self._others.move_to_end(waiter, last=False)

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
    def awaited(self) -> bool:
        """Whether any task is parked here."""
        waiters = (self._first, *(self._others or ()))
        return any(waiter is not None and not (isinstance(waiter, asyncio.Future) and waiter.done()) for waiter in waiters)

    def wake(self) -> None:
        """Let the task that has waited longest try again; if in vain, it keeps its place. One whose loop is closed is skipped."""
        while self._first is not None and not _resume(self._pop(), front=True):
            pass

    def wake_all(self) -> None:
        """Let every parked task try again, in order."""
        while self._first is not None:
            _resume(self._pop(), front=False)


class KernelWait:
    """A trio task's place in a queue while it waits in the kernel for a descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def interrupt(self) -> None:
        """Let it try again, and whoever else waits in the kernel for that descriptor."""
        sys.modules["trio"].lowlevel.notify_closing(self._fd)


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
    if isinstance(waiter, KernelWait):
        waiter.interrupt()
    else:
        sys.modules["trio"].lowlevel.reschedule(waiter, sys.modules["outcome"].Value(front))
    return True
