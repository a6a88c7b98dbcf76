"""A System V semaphore set that is read whole and changed by compare-and-swap, both atomic (semctl(2) GETALL, semop(2)).

Each primitive is a few pure functions from the values that were read to the change to make. semop(2) does all steps of a list, or
none. Steps that subtract a value, wait for zero and add it again test for exactly that value. So a change is made to the values
that were read, or not at all, and a killed process leaves no half of a change.

What a process adds for itself has SEM_UNDO: when the process ends, however it ends, the kernel reverts it in one step. `close` does
the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import anyio

from aipc._io.errors import translate
from aipc._sys.sysv import primitives
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import object_name
from aipc.exceptions import WrongObject
from aipc.locks.base import LockHandle
from aipc.locks.sysv_opening import kernel_limit

KIND = 0
"""The semaphore with a constant value that tells the set's kind; 0 in a set that is not prepared yet."""

Values = Sequence[int]


class Change(NamedTuple):
    """What to do to the values that were read.

    result   the operation's result
    tests    semaphores that must still have the value that was read
    shared   what to add for good
    own      what to add until this process ends, or subtracts it again
    again    whether to read and decide again: this change only cleaned up
    """

    result: Any = None
    tests: tuple[int, ...] = ()
    shared: Mapping[int, int] = {}
    own: Mapping[int, int] = {}
    again: bool = False


Decide = Callable[[Values], Change]
"""Decides by the values; BlockingIOError if they must change first."""


class AtomicSet(LockHandle):
    """Owns a set, and knows what this object has added to it for itself."""

    __slots__ = ("_seen", "_semaphores", "count", "own", "unlink")

    def __init__(self, semaphores: sysv.SemaphoreSet, count: int, name: str, *, unlink: bool) -> None:
        super().__init__(name, self._changed, object_name("sem", semaphores.id))
        self.polling.selective = True
        self._semaphores = semaphores
        self._seen: list[int] = []
        self.count: int = count
        self.own: Counter[int] = Counter()
        self.unlink: bool = unlink

    @property
    def identifier(self) -> int:
        """The kernel's number of the set, as in `ipcs -s`."""
        return self._semaphores.id

    def _changed(self) -> bool:
        try:
            return self._semaphores.values(self.count) != self._seen
        except OSError:
            return True  # trying will tell

    def _look(self) -> list[int]:
        self.check()
        values = self._semaphores.values(self.count)
        if values != self._seen:
            self._seen = values
            self.polling.wake_all()  # tasks that parked after reading other values
        return values

    def update(self, decide: Decide) -> Any:
        """Read, decide and change; repeat until no value changed in between. BlockingIOError if `decide` raises it.

        WrongObject if the values that were read do not allow the change: another program has set them.
        """
        while True:
            values = self._look()
            change = decide(values)
            if self._swapped(values, change) and not change.again:
                return change.result

    def _swapped(self, seen: Values, change: Change) -> bool:
        steps = list(_steps(seen, change))
        if steps:
            self._consistent(seen, change)
            try:
                self._semaphores.operate(sysv.mixed(steps))
            except BlockingIOError:
                return False  # another process was faster
            self.own.update(change.own)
            self.polling.notify()
        return True

    def _consistent(self, seen: Values, change: Change) -> None:
        """WrongObject if a value is less than this object has added: only SETVAL or SETALL of another program can cause that."""
        for index in {*change.shared, *change.own}:
            delta = change.shared.get(index, 0) + change.own.get(index, 0)
            if seen[index] + delta < 0:
                raise WrongObject(
                    errno.EINVAL,
                    f"{self.name}: semaphore {index} of set {self.identifier} is {seen[index]:,}, but must be at least {-delta:,}: "
                    f"another program has set it. `ipcrm -s {self.identifier}` removes the set; the next process to open it makes it anew",
                )

    async def update_when(self, decide: Decide) -> Any:
        """`update`, waiting until `decide` allows it. Cancelled: nothing was changed."""
        return await self.polling.attempt(self.update, decide)

    async def acquire_when(self, decide: Decide) -> Any:
        """`update_when`, for what is held until `released`: it leaves others a turn."""
        return await self.obtain(self.update, decide)

    def update_nowait(self, decide: Decide) -> Any:
        """`update`, or WouldBlock."""
        try:
            return self.polling.attempt_nowait(self.update, decide)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{self.name}: taken; await acquire() waits for it") from None

    def values(self) -> list[int]:
        """Return all values, read at one moment."""
        values: list[int] = self.update_nowait(Change)
        return values

    def explain(self, error: OSError) -> Exception:
        return super().explain(kernel_limit(error, self.name))

    def _let_go(self) -> None:
        steps = [(index, -added, sysv.NOWAIT | sysv.UNDO) for index, added in self.own.items() if added]
        self.own.clear()
        try:
            if steps:
                self._semaphores.operate(sysv.mixed(steps))
        except BlockingIOError:
            self._let_go_of_what_is_there(steps)
        except OSError:
            pass  # the set was removed
        try:
            if self.unlink:
                self._remove_set()
        except OSError as error:
            if error.errno != errno.EIDRM:  # already removed
                raise translate(error, self.name) from None

    def _let_go_of_what_is_there(self, steps: Iterable[tuple[int, int, int]]) -> None:
        """Take back what can be taken back: another program has set values, so all at once is impossible."""
        for step in steps:
            with contextlib.suppress(OSError):
                self._semaphores.operate(sysv.mixed([step]))

    def remove(self) -> None:
        """Remove the set now."""
        self.polling.attempt_nowait(self._remove)
        self.polling.notify()

    def _remove(self) -> None:
        self.check()
        self._remove_set()

    def _remove_set(self) -> None:
        self._semaphores.remove()
        primitives.forget(self._semaphores.key, os.geteuid())


def _steps(seen: Values, change: Change) -> Iterable[tuple[int, int, int]]:
    for index in change.tests:
        if seen[index]:
            yield index, -seen[index], sysv.NOWAIT
        yield index, 0, sysv.NOWAIT
        if back := seen[index] + change.shared.get(index, 0):
            yield index, back, sysv.NOWAIT
    for index, delta in change.shared.items():
        if index not in change.tests:
            yield index, delta, sysv.NOWAIT
    for index, delta in change.own.items():
        if delta:
            yield index, delta, sysv.NOWAIT | sysv.UNDO
