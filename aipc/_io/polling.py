"""Waiting for an object without a descriptor: System V queues, semaphores, locks on files.

Each try is a non-blocking system call. Between tries the pauses double, from 50 µs to 10 ms; a wait that has lasted over a
second doubles them on, to 100 ms, because the kernel alone charges some 40 µs for each wake-up. `clock` measures them, for all
waits of a loop together, and stretches them when there are many. A doorbell cuts them short when the other side is aipc, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from aipc._sys.bell_board import WAITERS

from . import loops
from .attempt import Waiting
from .clock import VAIN_WAKE, Clock, clock
from .doorbell import Bell, Doorbell

if TYPE_CHECKING:
    from .handle import Handle

FIRST_PAUSE = 50e-6
LONG_PAUSE = 10e-3
LONGEST_PAUSE = 100e-3
_LONG_WAIT = 1.1


def always() -> bool:
    return True


class Polling(Waiting):
    """Any number of tasks that wait for one object. `hopeful` tells, without a side effect, whether a try is worth while.

    `names` are the object's, the same in all processes, one for each thing that may be waited for: whoever provides it says so
    by `announce`.
    """

    SPIN_SECONDS: ClassVar[float] = 300e-6  # a message there and back while the peer's caches are cold
    PROBES_A_TURN: ClassVar[int] = 0

    __slots__ = ("_bell", "_clock", "_doorbells", "_hopeful", "_loop", "_pause", "_since", "_woken", "due", "old")

    def __init__(self, owner: Handle, hopeful: Callable[[], bool] = always, *names: str) -> None:
        super().__init__(owner)
        self._doorbells = tuple(map(Doorbell, names))
        self._bell: Bell | None = None  # where this listens
        self._hopeful = hopeful
        self._pause = FIRST_PAUSE
        self._since = 0.0
        self._woken = False
        self._clock: Clock | None = None
        self._loop: object = None
        self.due: float = inf
        self.old: bool = False

    def _begin(self) -> None:
        self._pause = FIRST_PAUSE
        self._since = monotonic()
        self._woken = False
        if self._clock is not None:
            self._clock.forget(self)  # it may be in a long pause of another task's wait
        self.old = False

    def _park(self) -> Awaitable[None]:
        loop = loops.current()
        if self._loop is not loop:
            self._leave()
            self._clock, self._loop = clock(), loop
        assert self._clock is not None
        if self._woken:
            self._woken = False
            self._clock.charge(VAIN_WAKE)
        if self._bell is None and self._doorbells:
            self._bell = self._clock.bell()
            if self._bell is not None:
                for doorbell in self._doorbells:
                    self._bell.listen(doorbell.row, self)
                return loops.turning()()  # one more try: who provided it before now did not ring
        if self.due == inf:
            self._clock.schedule(self, self._next_pause())
        return self.queue()

    def announce(self, most: int = WAITERS) -> None:
        """It may be there now: wake who waits for it, all of this object's tasks and `most` others."""
        if self._waiters:
            self.wake()
        for doorbell in self._doorbells:
            doorbell.ring(most)

    def others_wait(self) -> bool | None:
        """Whether somebody else of this user's processes waits for it, or another object here; None if there is no board."""
        heard = [doorbell.heard(self._bell, self) for doorbell in self._doorbells]
        return None if None in heard else any(heard)

    def rung(self) -> bool:
        """Somebody may have provided what is waited for. False if nobody waits, or it is not there."""
        if not self.awaited:
            self._unlisten()
            return False
        if not self._hopeful():
            return False
        self.wake()
        return True

    def look(self) -> float | None:
        """A pause is over: the next one, or None if nobody waits or all are to retry."""
        if not self.awaited:
            return None
        if self._bell is not None:
            for doorbell in self._doorbells:
                self._bell.renew(doorbell.row)
        if self._hopeful():
            self._woken = True
            self.wake()
            return None
        return self._next_pause()

    def _next_pause(self) -> float:
        self.old = monotonic() - self._since >= _LONG_WAIT
        pause = min(self._pause, LONGEST_PAUSE if self.old else LONG_PAUSE)
        self._pause = 2 * pause
        return pause

    def _unlisten(self) -> None:
        if self._bell is not None:
            for doorbell in self._doorbells:
                self._bell.leave(doorbell.row, self)
            self._bell = None

    def _leave(self) -> None:
        if self._clock is not None and not self.owner.forked:
            self._unlisten()
            self._clock.forget(self)
            self._clock.release()
        self._clock = self._bell = None

    def close(self) -> None:
        """Let go of the clock; every waiter retries and finds the object closed."""
        self._leave()
        self._loop = None
        doorbells, self._doorbells = self._doorbells, ()
        for doorbell in doorbells:
            doorbell.close()
        self.wake()


class Asking(Polling):
    """A polling wait whose `hopeful` costs less than a try in vain: it asks while it spins."""

    PROBES_A_TURN: ClassVar[int] = 8

    __slots__ = ()

    def _probe(self) -> Callable[[], object]:
        return self._hopeful
