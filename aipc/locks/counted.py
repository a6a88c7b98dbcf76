"""The common base of semaphores: units held, counters that anybody may raise, waiting for zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from aipc._io.polling import Polling
from aipc._texts.shown import Fact, parked, shown, state
from aipc.abc import Semaphore

from .base import LockHandle


class CountedHandle(LockHandle):
    """Owns a semaphore, and counts the units that this object holds; with `counter` nothing is held."""

    LARGEST: ClassVar[int]
    """The most units that can be taken or given at once."""
    AS_COUNTER: ClassVar[str]
    """The option that opens a semaphore as a counter."""

    __slots__ = ("_several", "counter", "held", "unlink", "zeroing")

    def __init__(self, name: str, object_name: str) -> None:
        super().__init__(name, self.free, object_name)
        self.zeroing: Polling = Polling(self, lambda: self.value() == 0, f"{object_name} zero")
        self._several = 0
        self.counter: bool = False
        self.unlink: bool = False
        self.held: int = 0

    @abstractmethod
    def value(self) -> int:
        """The semaphore's value: the number of free units."""

    def free(self) -> bool:
        """Whether `take` may succeed."""
        return self.value() > 0

    @abstractmethod
    def take(self, n: int) -> None:
        """Take all `n`, or raise BlockingIOError."""

    @abstractmethod
    def give(self, n: int) -> None:
        """Add `n`."""

    @abstractmethod
    def be_zero(self) -> None:
        """Raise BlockingIOError unless the value is 0."""

    @abstractmethod
    def holder(self) -> int | None:
        """The holder's pid, if it is known."""

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self.zeroing.notify()  # wake the tasks that wait for zero in a set just removed
            self.zeroing.close()

    @contextmanager
    def waiting_for_several(self) -> Iterator[None]:
        """While a task waits for several units, wake every task: what is too few for the first may be enough for another."""
        self._several += 1
        self.polling.selective = True
        try:
            yield
        finally:
            self._several -= 1
            self.polling.selective = self._several > 0


class CountedSemaphore(Semaphore):
    """A semaphore over its handle."""

    def __init__(self, handle: CountedHandle) -> None:
        self._handle = handle

    async def acquire(self, n: int = 1) -> None:
        handle = self._handle
        if self._checked(n) == 1:
            await handle.obtain(self._take, 1)
        else:
            with handle.waiting_for_several():
                await handle.obtain(self._take, n)

    def acquire_nowait(self, n: int = 1) -> None:
        self._handle.obtain_nowait(self._take, self._checked(n))

    def _checked(self, n: int) -> int:
        if not 1 <= n <= self._handle.LARGEST:
            raise ValueError(f"{self._handle.name}: n={n}: must be from 1 to {self._handle.LARGEST:,}")
        return n

    def _take(self, n: int) -> None:
        handle = self._handle
        handle.check()
        handle.take(n)
        if not handle.counter:
            handle.held += n
        handle.zeroing.notify()

    def release(self, n: int = 1) -> None:
        handle = self._handle
        handle.checked()
        self._checked(n)
        if not handle.counter and n > handle.held:
            raise RuntimeError(
                f"{handle.name}: release({n}), but this object holds {handle.held}; if one object raises a semaphore and another "
                f"lowers it, open it with {handle.AS_COUNTER}"
            )
        handle.releasing()
        handle.call(handle.give, n)
        if not handle.counter:
            handle.held -= n
        handle.released(n)

    @property
    def value(self) -> int:
        return self._handle.call(self._handle.value)

    async def wait_zero(self) -> None:
        await self._handle.zeroing.attempt(self._be_zero)

    def _be_zero(self) -> None:
        self._handle.check()
        self._handle.be_zero()

    def locked(self) -> bool:
        return not self._handle.call(self._handle.free)

    def holder(self) -> int | None:
        return self._handle.call(self._handle.holder)

    async def aclose(self) -> None:
        self._handle.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        handle = self._handle
        yield handle.name
        yield state(handle)
        yield lambda: f"value {self.value}"
        yield "" if handle.counter or handle.closed else f"{handle.held} held by this object"
        yield parked(handle.polling, "for it")
        yield parked(handle.zeroing, "for zero")
