"""The seam to the event loops: which one runs, a turn of it, its timer, and a queue of parked tasks.

`asyncio` stands for uvloop too: both run the same tasks and futures.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar, TypeVarTuple

import anyio

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


def in_trio() -> bool:
    """Whether a trio task runs this code (also true in trio's guest mode, inside an asyncio loop but in no task of it)."""
    return "trio" in sys.modules and (asyncio._get_running_loop() is None or asyncio.current_task() is None)


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


def turning() -> Callable[[], Awaitable[None]]:
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
            function()


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
    """Parked tasks: futures on asyncio, tasks on trio. Who wakes retries what it waits for, so one too many costs only time."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: tuple[Any, ...] = ()

    def queue(self) -> Awaitable[None]:
        """Park until `wake`. Cancelled: nothing happened."""
        return self._queue_in_trio() if in_trio() else self._queue_on(asyncio.get_running_loop())

    def _queue_on(self, loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        future = loop.create_future()
        if self._waiters:  # a cancelled future stays until somebody looks
            self._waiters = (*(other for other in self._waiters if not other.done()), future)
        else:
            self._waiters = (future,)
        return future

    async def _queue_in_trio(self) -> None:
        import trio

        task = trio.lowlevel.current_task()
        self._waiters = (*self._waiters, task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiters = tuple(other for other in self._waiters if other is not task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    @property
    def awaited(self) -> bool:
        """Whether any task is parked here."""
        return any(not isinstance(waiter, asyncio.Future) or not waiter.done() for waiter in self._waiters)

    def wake(self) -> None:
        """Let every parked task run again."""
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not isinstance(waiter, asyncio.Future):
                sys.modules["trio"].lowlevel.reschedule(waiter)
            elif not waiter.done():
                waiter.set_result(None)
