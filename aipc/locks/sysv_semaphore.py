"""System V semaphores (semop(2), sysvipc(7)).

With `undo`, the default, the kernel gives back what a process holds when it ends, however it ends; an object can then release
only what it holds. Without `undo` the semaphore is a plain counter, which anybody may raise.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from aipc._address import Address
from aipc._io.errors import translate
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import check_key, object_name

from .counted import CountedHandle, CountedSemaphore
from .sysv_opening import open_set


class _SetHandle(CountedHandle):
    """Owns a semaphore of a set."""

    LARGEST: ClassVar[int] = sysv.LARGEST_VALUE
    AS_COUNTER: ClassVar[str] = "undo=False"

    __slots__ = ("_down", "_index", "_set", "_up", "_zero")

    def __init__(self, semaphores: sysv.SemaphoreSet, name: str, index: int, undo: bool) -> None:
        super().__init__(name, object_name("sem", semaphores.id))
        self._set = semaphores
        self._index = index
        self.counter = not undo
        self._down, self._up, self._zero = self._steps(-1), self._steps(1), self._steps(0)

    def _steps(self, delta: int) -> sysv.Operations:
        """One operation that does not wait; with `undo` the kernel reverts it when the process ends."""
        flags = sysv.NOWAIT | (sysv.UNDO if delta and not self.counter else 0)
        return sysv.operations([(self._index, delta)], flags)

    def value(self) -> int:
        return self._set.value(self._index)

    def take(self, n: int) -> None:
        self._set.operate(self._down if n == 1 else self._steps(-n))

    def give(self, n: int) -> None:
        self._set.operate(self._up if n == 1 else self._steps(n))

    def be_zero(self) -> None:
        self._set.operate(self._zero)

    def holder(self) -> int | None:
        return None if self.value() else self._set.last_pid(self._index) or None

    def _let_go(self) -> None:
        held, self.held = self.held, 0
        try:
            if held:
                self.give(held)
            if self.unlink:
                self._set.remove()
        except OSError as error:
            if error.errno != errno.EIDRM:  # removed meanwhile: nothing is held
                raise translate(error, self.name) from None


class SysVSemaphore(CountedSemaphore):
    """One semaphore of a System V set."""


check = check_key


async def open_semaphore(
    address: Address,
    *,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool | None = None,
    value: int = 1,
    index: int = 0,
    count: int = 1,
    undo: bool = True,
    project: int | None = None,
    adopt: bool = False,
) -> SysVSemaphore:
    """Open semaphore `index` of a set. ObjectMissing if there is none (unless `create`), ObjectExists with `exclusive`.

    A new set has `count` semaphores, each of `value`. Processes that create it at the same time agree on the values (`open_set`):
    WrongObject if the set's creator does not set them within a second, unless `adopt`. Cancelled while waiting: nothing was
    opened. `unlink` removes the set on close: by default only a private one.
    """
    if value > sysv.LARGEST_VALUE:
        raise address.error(f"value={value}: a semaphore's largest value is {sysv.LARGEST_VALUE:,}")
    private = address.path == "private"
    if index >= count and (create or exclusive or private):
        raise address.error(f"index={index}: a set of count={count} has 0 to {count - 1}")
    values = [value] * count
    semaphores = await open_set(address, project, create=create, exclusive=exclusive, mode=mode, values=values, adopt=adopt)
    try:
        if not semaphores.has(index):
            semaphores.value(0)  # raises if it was removed in between
            raise address.error(f"index={index}: the set has fewer semaphores")
    except OSError as error:
        raise translate(error, address.url) from None
    handle = _SetHandle(semaphores, address.url, index, undo)
    handle.unlink = private if unlink is None else unlink
    return SysVSemaphore(handle)
