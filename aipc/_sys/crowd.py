"""Whether more threads want to run than there are processors: then one that spins takes the time of those that have work.

The kernel tells it late. Who is preempted has had its slice, some 3 ms, for which others have waited; and who yields is put behind
them by a slice (EEVDF). So a few preemptions in short time are enough, and it takes a while before the next attempt.

Where the process may use one processor only, its peer has to preempt it: there is no crowd, and `_io/loop/spin.py` has its own way.
"""

from __future__ import annotations

import os
from resource import RUSAGE_THREAD, getrusage
from time import perf_counter

_ASKS = 8
"""Spins from one question to the next: it takes 1.3 µs."""
_NEAR, _MANY = 10e-3, 3
"""So many preemptions, each within so many seconds after the last one, are a crowd's."""
_PAUSE = 0.05
"""Seconds without a spin. The next attempt takes 10 ms, if the crowd is still there."""


class Crowd:
    """What the thread of one event loop has seen."""

    __slots__ = ("_asks", "_count", "_last", "_preempted", "until")

    def __init__(self) -> None:
        self.until: float = 0.0
        """By `perf_counter`: no spin before. 0: nothing is against it."""
        self._asks = 0
        self._count = 0
        self._last = 0.0
        self._preempted = -1

    def is_there(self) -> bool:
        """Whether a thread that is about to spin should park instead."""
        if self.until:
            if perf_counter() < self.until:
                return True
            self.until, self._preempted = 0.0, -1
        self._asks += 1
        if self._asks % _ASKS == 0:
            self._look(perf_counter(), getrusage(RUSAGE_THREAD).ru_nivcsw)
        return self.until > 0

    def _look(self, now: float, preempted: int) -> None:
        more = preempted - self._preempted if self._preempted >= 0 else 0
        if self._preempted < 0:
            self._count, self._last = 0, now
        elif more:
            self._count = more + (self._count if now - self._last < _NEAR else 0)
            self._last = now
            if self._count >= _MANY and len(os.sched_getaffinity(0)) > 1:
                self.until = now + _PAUSE
        self._preempted = preempted
