"""A System V semaphore set that is read whole and changed by compare-and-swap, both atomic (semctl(2) GETALL, semop(2)).

Each primitive is a handful of pure functions from the values that were seen to the change to make. semop(2) takes a list of
steps, all or none; steps that take a value off, wait for zero and put it back test for that very value. So a change happens
to what was seen, or not at all, and a process that is killed leaves no half of one.

What a process adds for itself it adds with SEM_UNDO: when it ends, however it ends, the kernel takes all of it back in one go,
and `close` does the same.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aipc._io.errors import translate
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import object_name
from aipc.exceptions import WrongObject
from aipc.locks.base import LockHandle
from aipc.locks.sysv_opening import kernel_limit

KIND = 0
"""The semaphore whose constant value tells what the set is; 0 in a set that nobody has prepared yet."""

Values = Sequence[int]


class Change(NamedTuple):
    """What to do to the values that were seen.

    result   what the operation gives back
    tests    semaphores that must still have the value that was seen
    shared   what to add, for good
    own      what to add until this process ends, or takes it off again
    again    whether to look again afterwards: it was only tidying up
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
            return True  # the try finds out

    def _look(self) -> list[int]:
        self.check()
        values = self._semaphores.values(self.count)
        if values != self._seen:
            self._seen = values
            self.polling.wake_all()  # tasks that parked when they saw others
        return values

    def update(self, decide: Decide) -> Any:
        """Look, decide and change, until the values stood still for it. BlockingIOError if `decide` says so.

        WrongObject if the values seen can't be changed so: then somebody has set them by hand.
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
                return False  # somebody was faster
            self.own.update(change.own)
            self.polling.notify()
        return True

    def _consistent(self, seen: Values, change: Change) -> None:
        """Nobody but this object takes back what it has added, so that there is as much: unless somebody used SETVAL or SETALL."""
        for index in {*change.shared, *change.own}:
            delta = change.shared.get(index, 0) + change.own.get(index, 0)
            if seen[index] + delta < 0:
                raise WrongObject(
                    errno.EINVAL,
                    f"{self.name}: semaphore {index} of set {self.identifier} is {seen[index]:,}, where at least {-delta:,} belong: "
                    f"somebody has set it by hand. `ipcrm -s {self.identifier}` removes the set; the next one to open it makes it anew",
                )

    async def update_when(self, decide: Decide) -> Any:
        """`step` as soon as it need not wait. Cancelled: it was not done."""
        return await self.polling.attempt(self.update, decide)

    async def acquire_when(self, decide: Decide) -> Any:
        """`when`, for what is then held until `released`: leaves others a turn."""
        return await self.obtain(self.update, decide)

    def update_nowait(self, decide: Decide) -> Any:
        """`step`, or WouldBlock."""
        return self.polling.attempt_nowait(self.update, decide)

    def values(self) -> list[int]:
        """The values of all at one moment."""
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
            pass  # removed
        try:
            if self.unlink:
                self._semaphores.remove()
        except OSError as error:
            if error.errno != errno.EIDRM:  # somebody else was first
                raise translate(error, self.name) from None

    def _let_go_of_what_is_there(self, steps: Iterable[tuple[int, int, int]]) -> None:
        """Somebody has set values by hand, and all at once can't be taken back."""
        for step in steps:
            with contextlib.suppress(OSError):
                self._semaphores.operate(sysv.mixed([step]))

    def remove(self) -> None:
        """Remove the set now."""
        self.polling.attempt_nowait(self._remove)
        self.polling.notify()

    def _remove(self) -> None:
        self.check()
        self._semaphores.remove()


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
