"""Gives the processor to a process that was woken: the kernel may have put it on this one, and let it wait for milliseconds."""

from __future__ import annotations

import os
from time import perf_counter

_SLICE = 1e-3
"""Seconds: who takes the processor for so long was not only woken."""
_MOST_SKIPPED = 256


class YieldToPeer:
    """Yields, 0.5 µs if no other process wants this processor.

    If another process takes a whole slice, it is a busy neighbour: then the next calls yield nothing, 1, 2, 4 up to 256 of them.
    """

    __slots__ = ("_penalty", "_skip")

    def __init__(self) -> None:
        self._penalty = 1
        self._skip = 0

    def __call__(self) -> None:
        if self._skip:
            self._skip -= 1
            return
        before = perf_counter()
        os.sched_yield()
        if perf_counter() - before < _SLICE:
            self._penalty = max(self._penalty // 2, 1)
        else:
            self._skip, self._penalty = self._penalty, min(2 * self._penalty, _MOST_SKIPPED)
