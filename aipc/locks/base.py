"""What locks share: waiting by polling, leaving others a turn, release on close."""

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
"""Seconds: a little more than the longest pause of a wait in its first second, so that another process looks at the lock."""
TURN, LONGEST_TURN = 20e-3, 640e-3
"""Seconds for which a lock is held on end before asking who else wants it; and that, where rests were in vain for long."""


class LockHandle(Handle):
    """Owns a lock's kernel object: what to wait with, and how to let go of it.

    Whoever releases a lock and takes it again at once is quicker than all who wait for it, be they aipc's, which look every so
    often, or programs that the kernel has woken: a process that works mostly under the lock would have it for ever. So an object
    that has held its lock for a whole turn, with hardly a gap, finds out whether anybody waits, and then rests. The doorbell's
    board knows aipc's waiters, the kernel other programs; where there is no board, it rests all the same. If somebody else has
    the lock after that, turns stay short; if nobody took it, the next one is twice as long. A gap of a fifth of the time needs
    no rest: others get in.
    """

    __slots__ = ("_held_on_end", "_let_go_at", "_rest_until", "_taken_at", "_turn", "_wanted", "polling")

    def __init__(self, name: str, available: Callable[[], bool], *object_names: str) -> None:
        super().__init__(name)
        self.polling: Polling = Polling(self, available, *object_names)
        self._held_on_end = 0.0
        self._taken_at = self._let_go_at = self._rest_until = 0.0
        self._turn = TURN
        self._wanted: bool | None = None  # whether somebody waits, if that was asked in this turn

    async def obtain(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """`operation(*arguments)`, which takes the lock, as soon as it can. Cancelled: it did not happen."""
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
        """Before a release: the time counts, and at the end of a turn the question who waits.

        Here, because a release wakes the programs that sleep for a lock on a file, and none of them waits any more, for a moment.
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
        board = self.polling.others_wait()
        try:
            return board is None or board or self._kernel_waiters()
        except OSError:
            return True  # as without /proc: nobody can tell

    def _kernel_waiters(self) -> bool:
        """Whether a program sleeps until the lock is released, and then has to be quick. OSError if that can't be told.

        Of System V semaphores, none: whoever releases one does the steps of those who sleep in semop(2).
        """
        return False

    def released(self, most: int = WAITERS) -> None:
        """After a release: who waits for it may have it, here and in `most` other processes."""
        self.releasing()
        self.polling.notify(most)

    async def _rest(self) -> None:
        """Leave it to others for a moment; all tasks of this object do."""
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
        """Release what is held and give back descriptors."""

    def call(self, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """`call(*arguments)` for a plain call: ClosedResourceError or ForkedError if this object can't be used."""
        try:
            self.check()
            return call(*arguments)
        except OSError as error:
            raise self.explain(error) from None

    def checked(self) -> None:
        """For plain calls: ClosedResourceError or ForkedError if this object can't be used."""
        self.call(lambda: None)
