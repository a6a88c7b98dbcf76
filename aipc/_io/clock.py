"""One clock for all polled waits of a loop: a single timer, whose ticks serve every wait that is due by then.

Each wait has pauses of its own; long ones end on common instants, so that many waits cost one wake-up. What the looks cost is
measured, and with many waits the pauses stretch, so that all of them together stay within a share of the processor.

A timerfd measures the pauses: asyncio's and trio's own timers round up to a millisecond, and uvloop's returns at once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from heapq import heappop, heappush
from math import floor, inf, log2
from time import monotonic, perf_counter
from typing import Protocol

from aipc._sys import probes, timerfd

from . import loops
from .doorbell import DoorbellListener
from .source import Source

COMMON = 5e-3
"""Pauses from this one on, in seconds, end on common instants: a quarter to a half of the pause apart."""
YOUNG_SHARE, OLD_SHARE = 0.02, 0.003
"""How much of a processor all looks together may take: of waits in their first second or so, and of all older ones."""
VAIN_WAKE = 30e-6
"""What it costs to wake a task that tries in vain, in seconds."""


class Wait(Protocol):
    """A wait that wants to look again later."""

    due: float
    old: bool

    def look(self) -> float | None:
        """It is time: the seconds until the next look, or None if nobody waits any more or all were woken."""


class Clock:
    """The pauses of one loop's waits."""

    def __init__(self, loop: object) -> None:
        self._loop = loop
        self._fd, self._source = self._made()
        self._timer: loops.Timer | None = None
        self._heap: list[tuple[float, int, Wait]] = []
        self._count = itertools.count()
        self._armed = inf
        self._cost = 3e-6  # of one look, measured as it goes
        self._charged = 0.0
        self._waiting = {False: 0, True: 0}  # by whether they are old
        self._bell: DoorbellListener | None = None
        self._has_bell = True  # as far as is known
        self.users = 0

    def _made(self) -> tuple[int, Source | None]:
        """A timer's descriptor; -1 if there is none to be had, and then the loop's own timer has to do."""
        if not probes.enabled("timerfd"):
            return -1, None
        try:
            fd = timerfd.create()
        except OSError:
            return -1, None
        try:
            return fd, Source(fd, self._fired, self.close)
        except OSError:
            os.close(fd)
            return -1, None

    def schedule(self, wait: Wait, pause: float) -> None:
        """Call `wait.look()` in `pause` seconds, or somewhat later if there are many."""
        now = monotonic()
        self._push(wait, now, pause)
        if wait.due < self._armed:
            self._arm(wait.due, now)

    def forget(self, wait: Wait) -> None:
        """It needs no look any more."""
        if wait.due < inf:
            self._waiting[wait.old] -= 1
            wait.due = inf

    def charge(self, seconds: float) -> None:
        """A look had a price beyond itself."""
        self._charged += seconds

    def bell(self) -> DoorbellListener | None:
        """This loop's bell, made when it is first needed; None if there is none to be had."""
        if self._bell is None and self._has_bell:
            try:
                self._bell = DoorbellListener()
            except OSError:
                self._has_bell = False
        return self._bell

    def _push(self, wait: Wait, now: float, pause: float) -> None:
        self._waiting[wait.old] += 1
        others = self._waiting[wait.old] - 1
        pause = max(pause, others * self._cost / (OLD_SHARE if wait.old else YOUNG_SHARE))
        wait.due = now + pause
        if pause >= COMMON:
            grid = 2.0 ** floor(log2(pause / 2))
            wait.due = floor(wait.due / grid) * grid  # early rather than late
        heappush(self._heap, (wait.due, next(self._count), wait))

    def _fired(self) -> None:
        if self._fd >= 0 and not timerfd.expired(self._fd):
            return
        now = monotonic()
        start = perf_counter()
        looks = 0
        self._armed = inf
        while self._heap and self._heap[0][0] <= now:
            due, _, wait = heappop(self._heap)
            if wait.due != due:
                continue  # forgotten, or scheduled anew
            self.forget(wait)
            looks += 1
            pause = wait.look()
            if pause is not None:
                self._push(wait, now, pause)
        if looks:
            self._cost += ((perf_counter() - start + self._charged) / looks - self._cost) / 16
            self._charged = 0.0
        while self._heap and self._heap[0][2].due != self._heap[0][0]:
            heappop(self._heap)
        if self._heap:
            self._arm(self._heap[0][0], now)

    def _arm(self, due: float, now: float) -> None:
        self._armed = due
        pause = max(due - now, 1e-6)
        if self._source is not None:
            timerfd.arm(self._fd, pause)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loops.call_later(self._loop, max(pause, 1e-3), self._fired)  # uvloop takes less for nothing

    def release(self) -> None:
        """One user less; the last one gives the timer back."""
        self.users -= 1
        if not self.users:
            self.close()

    def close(self) -> None:
        """Give all back: nobody uses it, or the loop is over."""
        if _clocks.get(self._loop) is self:
            del _clocks[self._loop]
        bell, self._bell, self._has_bell = self._bell, None, False
        if bell is not None:
            bell.close()
        if self._timer is not None:
            self._timer.cancel()
        source, self._source = self._source, None
        if source is not None:
            source.close()
            os.close(self._fd)


_clocks: dict[object, Clock] = {}


def clock() -> Clock:
    """This loop's clock, made when it is first needed; `release` it once for each call."""
    loop = loops.current()
    if loop not in _clocks:
        for other in list(_clocks):
            if isinstance(other, asyncio.AbstractEventLoop) and other.is_closed() and (over := _clocks.get(other)):
                over.close()
        _clocks[loop] = Clock(loop)
    _clocks[loop].users += 1
    return _clocks[loop]
