"""The running event loop: which one it is, one turn of it, its timer, and background tasks.

`asyncio` stands for uvloop too: both run the same tasks and futures.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

import anyio

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_logger = logging.getLogger("aipc")

asyncio_future: type[object] = asyncio.Future
asyncio_cancelled: type[BaseException] = asyncio.CancelledError
asyncio_loop = asyncio._get_running_loop
"""The loop of asyncio's that runs here, or None: the quickest question."""
_context: Any = None


def in_trio_task() -> bool:
    """Whether a task of trio's runs this code, also in its guest mode, inside an asyncio loop."""
    global _context  # noqa: PLW0603 - each wait asks: to find it takes longer than to ask it
    if _context is None and "trio" in sys.modules:  # private names, which are not there yet while another thread imports it
        _context = getattr(getattr(getattr(sys.modules["trio"], "_core", None), "_run", None), "GLOBAL_RUN_CONTEXT", None)
    return _context is not None and "task" in _context.__dict__  # what trio's own question answers takes 0.4 µs


def in_trio() -> bool:
    """Whether trio runs this code: a task of it, or, where no asyncio loop runs, a callback of it."""
    return in_trio_task() or (
        _context is not None and asyncio._get_running_loop() is None and sys.modules["trio"].lowlevel.in_trio_run()
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


def checkpoint() -> Awaitable[None]:
    """One turn of this loop."""
    return checkpoint_function()()


def current() -> object:
    """What stands for the loop that runs here: asyncio's loop, or trio's token."""
    if in_trio():
        return sys.modules["trio"].lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def task_name() -> str:
    """The name of the task that runs here."""
    if in_trio():
        return str(_context.task.name)
    task = asyncio.current_task()
    return "" if task is None else task.get_name()


def others_ready(loop: object) -> Callable[[], int] | None:
    """A function that tells how many other tasks of that loop are ready to run; None on uvloop, which does not show that."""
    with suppress(AttributeError):  # private names: `current_statistics` of trio's takes 3.5 µs, and asyncio has nothing public
        if isinstance(loop, asyncio.AbstractEventLoop):
            return cast(Callable[[], int], cast(Any, loop)._ready.__len__)
        return cast(Callable[[], int], sys.modules["trio"]._core._run.GLOBAL_RUN_CONTEXT.runner.runq.__len__)
    return None


class Timer(Protocol):
    """A scheduled call."""

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


_scopes: dict[bool, type[anyio.CancelScope]] = {}


def cancel_scope(deadline: float) -> anyio.CancelScope:
    """A cancel scope of anyio's. To ask anyio for one takes twice as long: it finds out each time which loop runs."""
    trio = in_trio()
    if trio not in _scopes:
        _scopes[trio] = type(anyio.CancelScope())
    return _scopes[trio](deadline=deadline)


def call_soon(function: Callable[[], object]) -> None:
    """Call `function` on the loop that runs here, once all that is ready now had its turn."""
    if in_trio():
        sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon(call_all, (function,))
    else:
        asyncio.get_running_loop().call_soon(call_all, (function,))


def call_from_thread(loop: object, function: Callable[[], object]) -> None:
    """Call `function` on that loop (`current`), from a thread that does not run it. Nothing, if the loop is over."""
    with suppress(RuntimeError):  # the loop is closed; trio.RunFinishedError is one, too
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(call_all, (function,))
        else:
            cast(Any, loop).run_sync_soon(call_all, (function,))


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
