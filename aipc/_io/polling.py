"""Waiting for an object without a descriptor: System V queues and semaphores, file locks.

Each try is a non-blocking system call. Between tries the pauses double, from 50 µs to 10 ms; a wait that has lasted over a
second doubles them on, to 100 ms, because the kernel alone charges some 40 µs for each wake-up. A timerfd measures them:
asyncio's and trio's own timers round up to a millisecond, and uvloop's returns at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from aipc._sys import probes, timerfd

from . import loops
from .attempt import Waiting
from .reactor import READ, Reactor, reactor_of

if TYPE_CHECKING:
    from .handle import Handle

FIRST_PAUSE = 50e-6
LONG_PAUSE = 10e-3
LONGEST_PAUSE = 100e-3
_LONG_WAIT = 1.1


def _always() -> bool:
    return True


class Polling(Waiting):
    """Any number of tasks that wait for one object. `hopeful` tells, without a side effect, whether a try is worth while."""

    SPIN_SECONDS: ClassVar[float] = 200e-6  # the first pause, a wake-up from it, and the same again at the other side
    PROBES_A_TURN: ClassVar[int] = 0

    __slots__ = ("_hopeful", "_pause", "_since", "_ticker")

    def __init__(self, owner: Handle, hopeful: Callable[[], bool] = _always) -> None:
        super().__init__(owner)
        self._hopeful = hopeful
        self._pause = FIRST_PAUSE
        self._since = 0.0
        self._ticker: _Ticker | None = None

    def _begin(self) -> None:
        self._pause = FIRST_PAUSE
        self._since = monotonic()
        if self._ticker is not None:
            self._ticker.stop()  # it may be in a long pause of another task's wait

    def _park(self) -> Awaitable[None]:
        if self._ticker is None:
            self._ticker = _Ticker(self._tick)
        if not self._ticker.running:
            self._ticker.start(self._next_pause())
        return self.queue()

    def _tick(self) -> float | None:
        """A pause is over: the next one, or None if nobody waits or all are to retry."""
        if not self.awaited:
            return None
        if self._hopeful():
            self.wake()
            return None
        return self._next_pause()

    def _next_pause(self) -> float:
        longest = LONG_PAUSE if monotonic() - self._since < _LONG_WAIT else LONGEST_PAUSE
        pause = min(self._pause, longest)
        self._pause = 2 * pause
        return pause

    def close(self) -> None:
        """Give the timer back; every waiter retries and finds the object closed."""
        if self._ticker is not None:
            self._ticker.close()
            self._ticker = None
        self.wake()


class _Ticker:
    """Calls `tick` after a pause, and again after each next pause that it gives, on whichever loop runs."""

    __slots__ = ("_fd", "_handle", "_loop", "_pause", "_reactor", "_tick", "_trio_task", "running")

    def __init__(self, tick: Callable[[], float | None]) -> None:
        self._tick = tick
        self._fd = timerfd.create() if probes.enabled("timerfd") else -1
        self._reactor: Reactor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._trio_task = False
        self._pause = 0.0
        self.running = False

    def start(self, pause: float) -> None:
        """Begin, from the task that is about to park."""
        self.running = True
        if loops.in_trio():
            self._loop = None
            if not self._trio_task:
                self._trio_task = True
                loops.start_soon(self._run_in_trio)
        else:
            self._loop = asyncio.get_running_loop()
            if self._fd >= 0:
                self._watch(reactor_of(self._loop))
        self._arm(pause)

    def _watch(self, reactor: Reactor) -> None:
        if self._reactor is not reactor:
            reactor.watch(self._fd, READ, self)
            self._reactor = reactor

    def _arm(self, pause: float) -> None:
        self._pause = pause
        if self._fd >= 0:
            timerfd.arm(self._fd, pause)
        elif self._loop is not None:
            self._handle = self._loop.call_later(pause, self.fired)

    def fired(self) -> None:
        """The pause is over."""
        if self._fd >= 0 and not timerfd.expired(self._fd):
            return  # stopped, or begun anew, in the same turn of the loop
        if not self.running:
            return
        pause = self._tick()
        if pause is None:
            self.stop()
        elif pause != self._pause or self._fd < 0:  # the timerfd repeats itself: a steady pause needs no system call
            self._arm(pause)

    async def _run_in_trio(self) -> None:
        import trio

        try:
            while self.running:
                if self._fd >= 0:
                    await trio.lowlevel.wait_readable(self._fd)
                else:
                    await trio.sleep(self._pause)
                self.fired()
        except trio.ClosedResourceError:
            pass  # closed while waiting
        finally:
            self._trio_task = False

    def stop(self) -> None:
        """Forget the pause that runs."""
        self.running = False
        if self._handle is not None:
            self._handle.cancel()
        if self._fd >= 0:
            timerfd.arm(self._fd, 0)

    def close(self) -> None:
        """Stop, and give the descriptor back."""
        self.stop()
        if self._reactor is not None:
            self._reactor.unwatch(self._fd, READ)
        if self._fd >= 0:
            if self._trio_task:
                import trio

                trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1
