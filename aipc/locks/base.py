"""The common base of locks: waiting by polling, resting so that others get the lock, release on close."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import TypeVar, TypeVarTuple

import anyio

from aipc._io.handle import Handle
from aipc._io.polling import Polling
from aipc._sys.doorbell.table import WAITERS

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

REST = 12e-3
"""Seconds: a little more than the longest pause in the first second of a wait, so that another process polls the lock."""
TURN, LONGEST_TURN = 20e-3, 640e-3
"""Seconds that a lock is held without a real gap before its object asks for other waiters; and the maximum, after vain rests."""


class LockHandle(Handle):
    """Owns a lock's kernel object, and knows how to wait for it and how to release it.

    An object that releases a lock and takes it again at once is faster than every waiter: aipc's waiters poll, and programs that
    the kernel wakes need time to run. So a process that works mostly under the lock would hold it for ever. Therefore an object
    that has held its lock for a whole turn, with hardly a gap, finds out whether anybody waits, and then rests. The doorbell's
    table knows aipc's waiters, the kernel knows other programs; without a table, the object always rests. If another process
    has the lock after the rest, turns stay short; if nobody took it, the next turn is twice as long. If the gaps make up a fifth
    of the time, no rest is needed: others get the lock in them.
    """

    __slots__ = ("_held_on_end", "_let_go_at", "_rest_until", "_taken_at", "_turn", "_wanted", "polling")

    def __init__(self, name: str, available: Callable[[], bool], *object_names: str) -> None:
        super().__init__(name)
        self.polling: Polling = Polling(self, available, *object_names)
        self._held_on_end = 0.0
        self._taken_at = self._let_go_at = self._rest_until = 0.0
        self._turn = TURN
        self._wanted: bool | None = None  # whether anybody waits; None until asked in this turn

    async def obtain(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call `operation(*arguments)`, which takes the lock, until it succeeds. Cancelled: the lock was not taken."""
        if self._held_on_end > self._turn and self._gap() < self._held_on_end - self._turn:
            rests = self._wanted
            if rests:
                await self._rest()
            self._held_on_end = 0.0
            self._wanted = None
            try:
                result = self.polling.attempt_nowait(operation, *arguments)
            except anyio.WouldBlock:
                self._turn = TURN
            else:
                self._turn = min(2 * self._turn, LONGEST_TURN) if rests else TURN
                self._taken()
                return result
        result = await self.polling.attempt(operation, *arguments)
        self._taken()
        return result

    def obtain_nowait(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """`operation(*arguments)`, or WouldBlock."""
        try:
            result = self.polling.attempt_nowait(operation, *arguments)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{self.name}: taken; await acquire() waits for it") from None
        self._taken()
        return result

    def _gap(self) -> float:
        return 4 * (monotonic() - self._let_go_at)

    def _taken(self) -> None:
        if self._held_on_end:
            self._held_on_end = max(0.0, self._held_on_end - self._gap())
        self._taken_at = monotonic()

    def releasing(self) -> None:
        """Prepare a release: add the hold time, and at the end of a turn ask whether anybody waits.

        It asks before the release, because that wakes the programs that sleep for a file lock, and for a moment none of them waits.
        """
        if not self._taken_at:
            return
        self._let_go_at = monotonic()
        self._held_on_end += self._let_go_at - self._taken_at
        self._taken_at = 0.0
        if self._held_on_end <= self._turn:
            self._wanted = None
        elif self._wanted is None:
            self._wanted = self._others_wait()

    def _others_wait(self) -> bool:
        others = self.polling.others_wait()
        try:
            return others is None or others or self._kernel_waiters()
        except OSError:
            return True  # as without /proc: unknown

    def _kernel_waiters(self) -> bool:
        """Whether a program sleeps until the lock is released, and then needs time to run. OSError if that is unknown.

        Always false for System V semaphores: the kernel carries out the operations of programs that sleep in semop(2).
        """
        return False

    def released(self, most: int = WAITERS) -> None:
        """After a release: wake the waiters of this process, and up to `most` other processes."""
        self.releasing()
        self.polling.notify(most)

    async def _rest(self) -> None:
        """Leave the lock to others for a moment; all tasks of this object rest."""
        now = monotonic()
        if self._rest_until < now:
            self._rest_until = now + REST
        await anyio.sleep(self._rest_until - now)

    def _close(self) -> None:
        try:
            self._let_go()
        finally:
            self.polling.notify()
            self.polling.close()

    @abstractmethod
    def _let_go(self) -> None:
        """Release what is held, and close the descriptors."""

    def checked(self) -> None:
        """Check, for a plain call, that this object can be used; otherwise ClosedResourceError or ForkedError."""
        self.call(lambda: None)
