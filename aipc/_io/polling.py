"""Waiting for an object without a descriptor: System V queues and semaphores, file locks.

Each try is a non-blocking system call. Between tries the pauses double, from 50 µs to a cap of 10 ms: short ones on a
timerfd, because asyncio's and trio's own timers round up to a millisecond (and uvloop's returns at once); long ones on the
loop's timer, which costs no system call of its own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import anyio

from aipc._sys import probes, timerfd

from . import loops
from .attempt import Waiting
from .handle import FileHandle

if TYPE_CHECKING:
    from .handle import Handle

FIRST_PAUSE = 50e-6
LONGEST_PAUSE = 10e-3
_LOOP_TIMER_FROM = 2e-3


class Polling(Waiting):
    """Any number of tasks that wait for one object; one of them holds the timer, for all."""

    PROBES_A_TURN = 0

    __slots__ = ("_asleep", "_pause", "_timer")

    def __init__(self, owner: Handle) -> None:
        super().__init__(owner)
        self._asleep = False
        self._pause = FIRST_PAUSE
        self._timer: FileHandle | None = None

    def _park(self) -> Awaitable[None]:
        return self.queue() if self._asleep else self._lead()

    def _begin(self) -> None:
        if not self._asleep:
            self._pause = FIRST_PAUSE

    async def _lead(self) -> None:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._asleep = True
        try:
            await self._sleep(pause)
        finally:
            self._asleep = False
            self.wake()

    async def _sleep(self, seconds: float) -> None:
        if seconds >= _LOOP_TIMER_FROM or not probes.enabled("timerfd"):
            await loops.sleep(seconds)
            return
        if self._timer is None:
            self._timer = FileHandle(timerfd.create(), f"{self.owner.name} (timer)", spins=False)
        timer = self._timer
        timerfd.arm(timer.fd, seconds)
        try:
            await timer.readable.attempt(lambda: os.read(timer.fd, 8))
        except anyio.ClosedResourceError:
            pass  # the owner was closed meanwhile: the retry finds out

    def close(self) -> None:
        """Give the timer back; every waiter retries and finds the object closed."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self.wake()
