"""One timer for all polled waits of a loop: its ticks serve every wait that is due by then.

Each wait has pauses of its own; long ones end on common instants, so that many waits cost one wake-up. Each look has a price,
and with many waits the pauses stretch, so that all of them together stay within a share of the processor; up to a limit.

A timerfd measures the pauses: asyncio's and trio's own timers round up to a millisecond, and uvloop's returns at once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from math import floor, inf, log2
from time import monotonic
from typing import Any, Protocol, cast

from aipc._sys import probes, timerfd

from .doorbell import DoorbellListener
from .loop import backend
from .loop.fd_callback import FdCallback
from .loop.reactor import Reactor, reactor_of

SHARED_TICK = 5e-3
"""Pauses from this one on, in seconds, end on common instants: a quarter to a half of the pause apart."""
POLL_PRICE, VAIN_WAKE_PRICE = 5_000, 35_000
"""Prices, in nanoseconds of a processor: of a look, and of one that wakes a task in vain."""
SHORT_WAITS_SHARE, LONG_WAITS_SHARE = 0.02, 0.003
"""How much of a processor all looks together may take: of waits in their first second or so, and of all older ones."""
LONGEST_STRETCH = 2.0
"""Seconds: how far pauses stretch."""


class PolledWait(Protocol):
    """A wait that wants to look again later. `price` and `old` stay as they are while `due` is finite."""

    due: float
    long_waiting: bool
    price: int

    def poll(self) -> float | None:
        """The pause is over. Return the seconds until the next poll, or None if no task waits any more, or one was woken."""


class PollTimer:
    """The pauses of one loop's waits, and the doorbell that cuts them short."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._fd, self._source = self._made()
        self._timer: backend.Timer | None = None
        self._heap: list[tuple[float, int, PolledWait]] = []
        self._count = itertools.count()
        self._armed = inf
        self._prices = {False: 0, True: 0}  # of all that wait, by whether they are old
        self._listener: DoorbellListener | None = None
        self._may_listen = True  # as far as is known
        self._closed = False
        self.users = 0

    def _made(self) -> tuple[int, FdCallback | None]:
        """A timer's descriptor; -1 if the kernel gives none, and then the loop's own timer has to do."""
        if not probes.enabled("timerfd"):
            return -1, None
        try:
            fd = timerfd.create()
        except OSError:
            return -1, None
        try:
            return fd, FdCallback(self._reactor, fd, self._fired)
        except OSError:
            os.close(fd)
            return -1, None

    def schedule(self, wait: PolledWait, pause: float) -> None:
        """Call `wait.look()` in `pause` seconds, or somewhat later if there are many. Nothing, if the loop is over."""
        if self._closed:
            return
        now = monotonic()
        self._push(wait, now, pause)
        if wait.due < self._armed:
            self._arm(wait.due, now)

    def cancel(self, wait: PolledWait) -> None:
        """It needs no look any more."""
        if wait.due < inf:
            self._prices[wait.long_waiting] -= wait.price
            wait.due = inf

    def doorbell_listener(self) -> DoorbellListener | None:
        """This loop's doorbell, made when it is first needed; None if there can't be one."""
        if self._listener is None and self._may_listen:
            try:
                self._listener = DoorbellListener(self._reactor)
            except OSError:
                self._may_listen = False
        return self._listener

    def _push(self, wait: PolledWait, now: float, pause: float) -> None:
        share = LONG_WAITS_SHARE if wait.long_waiting else SHORT_WAITS_SHARE
        pause = max(pause, min(self._prices[wait.long_waiting] * 1e-9 / share, LONGEST_STRETCH))
        self._prices[wait.long_waiting] += wait.price
        wait.due = now + pause
        if pause >= SHARED_TICK:
            grid = 2.0 ** floor(log2(pause / 2))
            wait.due = floor(wait.due / grid) * grid  # early rather than late
        heappush(self._heap, (wait.due, next(self._count), wait))

    def _fired(self) -> None:
        if self._fd >= 0 and not timerfd.expired(self._fd):
            return
        now = monotonic()
        self._armed = inf
        try:
            backend.call_all(self._polls_due(now))
        finally:
            self._arm_next(now)

    def _polls_due(self, now: float) -> Iterator[Callable[[], None]]:
        while self._heap and self._heap[0][0] <= now:
            due, _, wait = heappop(self._heap)
            if wait.due == due:  # neither cancelled nor scheduled anew
                self.cancel(wait)
                yield partial(self._poll, wait, now)

    def _poll(self, wait: PolledWait, now: float) -> None:
        pause = wait.poll()
        if pause is not None:
            self._push(wait, now, pause)

    def _arm_next(self, now: float) -> None:
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
        self._timer = backend.call_later(self._reactor.loop, max(pause, 1e-3), self._fired)  # uvloop fires at once for less

    def release(self) -> None:
        """One user less; the last one gives the timer and the doorbell back."""
        self.users -= 1
        if not self.users:
            self.close()

    def close(self) -> None:
        """Close the timer and the doorbell: no wait uses them any more, or the loop is over."""
        self._closed = True
        if self._reactor.poll_timer is self:
            self._reactor.poll_timer = None
        bell, self._listener, self._may_listen = self._listener, None, False
        if bell is not None:
            bell.close()
        if self._timer is not None:
            self._timer.cancel()
        source, self._source = self._source, None
        if source is not None:
            source.close()
            os.close(self._fd)

    def forget(self) -> None:
        """In a forked child."""
        if self._source is not None:
            os.close(self._fd)


def poll_timer(reactor: Reactor | None = None) -> PollTimer:
    """The clock of this loop's reactor, made when it is first needed; `release` it once for each call."""
    reactor = reactor or reactor_of(backend.current())
    used: Any = reactor.poll_timer or PollTimer(reactor)
    reactor.poll_timer = used
    used.users += 1  # without a call before: the garbage collector may release the last other user there
    return cast(PollTimer, used)
