"""System V semaphores (semop(2), sysvipc(7)).

With `undo`, the default, the kernel gives back what a process holds when it ends, however it ends; only what this object
holds can then be released. Without it the semaphore is a plain counter, which anybody may raise.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from aipc._address import Address
from aipc._io.errors import translate
from aipc._io.polling import Polling
from aipc._sys import sysv_semaphore as sysv
from aipc._sys.sysv_key import object_name
from aipc.abc import Semaphore

from .base import LockHandle
from .sysv_opening import open_set

Result = TypeVar("Result")


class _SetHandle(LockHandle):
    """Owns a semaphore of a set, and counts what this object holds of it."""

    __slots__ = ("held", "index", "set", "undo", "unlink", "zeroing")

    def __init__(self, semaphores: sysv.SemaphoreSet, name: str, index: int, undo: bool, unlink: bool) -> None:
        called = object_name("sem", semaphores.id)
        super().__init__(name, self._asked(lambda value: value > 0), called)
        self.zeroing: Polling = Polling(self, self._asked(lambda value: value == 0), f"{called} zero")
        self.index: int = index
        self.set: sysv.SemaphoreSet = semaphores
        self.undo: bool = undo
        self.unlink: bool = unlink
        self.held: int = 0

    def _asked(self, question: Callable[[int], bool]) -> Callable[[], bool]:
        def answer() -> bool:
            try:
                return question(self.set.value(self.index))
            except OSError:
                return True  # the try finds out

        return answer

    def steps(self, delta: int) -> sysv.Operations:
        """One operation that does not wait, and is undone when the process ends."""
        flags = sysv.NOWAIT | (sysv.UNDO if self.undo and delta else 0)
        return sysv.operations([(self.index, delta)], flags)

    def _let_go(self) -> None:
        held, self.held = self.held, 0
        self.zeroing.close()
        try:
            if held and self.undo:
                self.set.operate(self.steps(held))
            if self.unlink:
                self.set.remove()
        except OSError as error:
            if error.errno != errno.EIDRM:  # removed meanwhile: nothing is held any more
                raise translate(error, self.name) from None


class SysVSemaphore(Semaphore):
    """One semaphore of a System V set."""

    def __init__(self, handle: _SetHandle) -> None:
        self._handle = handle
        self._down, self._up, self._zero = handle.steps(-1), handle.steps(1), handle.steps(0)

    async def acquire(self, n: int = 1) -> None:
        await self._handle.obtain(self._take, self._steps(n, -1), n)

    def acquire_nowait(self, n: int = 1) -> None:
        self._handle.obtain_nowait(self._take, self._steps(n, -1), n)

    def _steps(self, n: int, sign: int) -> sysv.Operations:
        if not 1 <= n <= sysv.LARGEST_VALUE:
            raise ValueError(f"{self._handle.name}: n={n}: must be from 1 to {sysv.LARGEST_VALUE:,}")
        if n == 1:
            return self._up if sign > 0 else self._down
        return self._handle.steps(sign * n)

    def _take(self, steps: sysv.Operations, n: int) -> None:
        self._handle.check()
        self._handle.set.operate(steps)
        self._handle.held += n
        self._handle.zeroing.announce()

    def release(self, n: int = 1) -> None:
        handle = self._handle
        handle.checked()
        steps = self._steps(n, 1)
        if handle.undo and n > handle.held:
            raise RuntimeError(
                f"{handle.name}: release({n}), but this object holds {handle.held}; a semaphore that one raises and another "
                "lowers is opened with undo=False"
            )
        self._asked(handle.set.operate, steps)
        handle.held = max(0, handle.held - n)
        handle.released(n)

    def _asked(self, call: Callable[..., Result], *arguments: object) -> Result:
        self._handle.checked()
        try:
            return call(*arguments)
        except OSError as error:
            raise self._handle.explain(error) from None

    @property
    def value(self) -> int:
        return self._asked(self._handle.set.value, self._handle.index)

    async def wait_zero(self) -> None:
        await self._handle.zeroing.attempt(self._be_zero)

    def _be_zero(self) -> None:
        self._handle.check()
        self._handle.set.operate(self._zero)

    def locked(self) -> bool:
        return self.value == 0

    def holder(self) -> int | None:
        if self.value:
            return None
        return self._asked(self._handle.set.last_pid, self._handle.index) or None

    async def aclose(self) -> None:
        self._handle.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name}>"


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
) -> SysVSemaphore:
    """Open semaphore `index` of a set. ObjectMissing if there is none (unless `create`), ObjectExists with `exclusive`.

    A new set has `count` semaphores, each of `value`, which all who create it at once agree on (`open_set`). Cancelled while
    waiting: nothing was opened. `unlink` removes the set on close: by default only a private one.
    """
    if value > sysv.LARGEST_VALUE:
        raise address.error(f"value={value}: a semaphore's largest value is {sysv.LARGEST_VALUE:,}")
    private = address.path == "private"
    if index >= count and (create or exclusive or private):
        raise address.error(f"index={index}: a set of count={count} has 0 to {count - 1}")
    semaphores = await open_set(address, project, create=create, exclusive=exclusive, mode=mode, values=[value] * count)
    try:
        if not semaphores.has(index):
            raise address.error(f"index={index}: the set has fewer semaphores")
    except OSError as error:
        raise translate(error, address.url) from None
    return SysVSemaphore(_SetHandle(semaphores, address.url, index, undo, private if unlink is None else unlink))
