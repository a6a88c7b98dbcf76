"""An event that tasks of all processes can wait for, like asyncio.Event."""

from __future__ import annotations

from typing import ClassVar, Literal

from aipc._sys.sysv import primitives
from aipc._sys.sysv.semaphore import LARGEST_VALUE

from .atomic_set import Change, Values
from .base import Primitive

CLEAR, PULSES = 1, 2
"""1 while the event is clear, 0 when it is set; the number of times it was set, from 0 to 32,767, then from 0 again."""


class Event(Primitive):
    """Set or clear, for all processes; it keeps its state when they end. A new event is clear.

    `wait` misses no `set`, even if `clear` follows at once. Nobody holds anything: a killed process leaves the event as it was.
    """

    __slots__ = ()
    _KIND: ClassVar[int] = primitives.EVENT

    def _first(self) -> tuple[int, int]:
        return 1, 0

    def _contents(self) -> str:
        return "set" if self.is_set() else "clear"

    def is_set(self) -> bool:
        """Whether it is set."""
        return not self._state.values()[CLEAR]

    def set(self) -> None:
        """Set it: all waiting tasks continue, and `wait` returns at once until it is cleared."""
        self._state.update_nowait(_set)

    def clear(self) -> None:
        """Clear it: later calls of `wait` wait for the next `set`."""
        self._state.update_nowait(_clear)

    async def wait(self) -> Literal[True]:
        """Wait until it is set. Cancelled: nothing happened."""
        state = self._state
        since = state.values()[PULSES]

        def was_set(values: Values) -> Change:
            if values[CLEAR] and values[PULSES] == since:
                raise BlockingIOError
            return Change()

        await state.update_when(was_set)
        return True


def _set(values: Values) -> Change:
    if not values[CLEAR]:
        return Change()
    step = 1 if values[PULSES] < LARGEST_VALUE else -LARGEST_VALUE
    return Change(tests=(CLEAR, PULSES), shared={CLEAR: -values[CLEAR], PULSES: step})


def _clear(values: Values) -> Change:
    return Change() if values[CLEAR] else Change(tests=(CLEAR,), shared={CLEAR: 1})
