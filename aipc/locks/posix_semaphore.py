"""POSIX semaphores by name (sem_overview(7)).

The kernel knows no holder: what a killed process held stays taken. With `robust`, a semaphore of value 1 has its holder's pid
beside it, and who waits takes it over from a dead one. With `counter` it is a plain counter, which anybody may raise.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

from aipc._address import Address
from aipc._io.errors import translate
from aipc._io.files import same_file
from aipc._io.polling import Polling
from aipc._sys import posix_semaphore as posix
from aipc._sys.holder_record import HolderRecord
from aipc._sys.posix_name import name_of
from aipc._sys.processes import Process, has_ended, this_process
from aipc.abc import Semaphore
from aipc.exceptions import LimitExceeded, WrongObject

from .base import LockHandle

Result = TypeVar("Result")
_NOBODY = Process(0, 0, 0)
_TRIES = 100


class _SemaphoreHandle(LockHandle):
    """Owns a semaphore, and counts what this object holds of it; `counter`: nothing is held."""

    __slots__ = ("_path", "_shape", "counter", "held", "semaphore", "unlink", "zeroing")

    def __init__(self, semaphore: posix.NamedSemaphore, url: str, path: str, shape: os.stat_result) -> None:
        super().__init__(url, self._hopeful, f"file {path}")
        self.zeroing: Polling = Polling(self, lambda: self.semaphore.value == 0, f"file {path} zero")
        self.semaphore: posix.NamedSemaphore = semaphore
        self.held: int = 0
        self.counter: bool = False
        self.unlink: bool = False
        self._path = path
        self._shape = shape

    def free(self) -> bool:
        """Whether a take may succeed."""
        return self.semaphore.value > 0

    def _hopeful(self) -> bool:
        try:
            return self.free()
        except OSError:
            return True  # the try finds out

    def take(self, n: int) -> None:
        """All `n` or BlockingIOError. One after the other: there is no call for several."""
        if n > 1 and self.semaphore.value < n:
            raise BlockingIOError
        taken = 0
        try:
            for taken in range(n):  # noqa: B007 - how many came before the one that failed
                self.semaphore.take()
        except BlockingIOError:
            self.give(taken)
            raise

    def give(self, n: int) -> None:
        """Add `n`. LimitExceeded, and nothing added, over the largest value."""
        if n > posix.LARGEST_VALUE - self.semaphore.value:
            raise LimitExceeded(
                errno.EOVERFLOW,
                f"{self.name}: {n:,} more than {self.semaphore.value:,}: a semaphore's largest value is {posix.LARGEST_VALUE:,}",
            )
        for _ in range(n):
            self.semaphore.give()

    def holder(self) -> int | None:
        """The holder's pid, if that is known."""
        return None

    def _let_go(self) -> None:
        held, self.held = self.held, 0
        self.zeroing.close()
        try:
            self.give(held)
            if self.unlink and same_file(self._path, self._shape):
                self.semaphore.unlink()
        except FileNotFoundError:
            pass  # removed in between
        except OSError as error:
            raise translate(error, self.name) from None
        finally:
            self.semaphore.close()


class _RobustHandle(_SemaphoreHandle):
    """Owns a semaphore of value 1 with a record of its holder.

    Who takes it writes itself down *before* it takes, both under the record's guard; to release needs no record. So the record
    means something only while the value is 0, and there is no moment at which a kill leaves the semaphore taken by nobody
    known. Who is written down and has ended can't give the semaphore back any more: whether the value is 0 or 1, it is the next
    taker's.
    """

    __slots__ = ("_me", "_record")

    def __init__(
        self, semaphore: posix.NamedSemaphore, url: str, path: str, shape: os.stat_result, record: HolderRecord
    ) -> None:
        super().__init__(semaphore, url, path, shape)
        self._record = record
        self._me = this_process()

    def free(self) -> bool:
        return self.semaphore.value > 0 or self._orphaned(self._record.read())

    def _orphaned(self, last: Process | None) -> bool:
        return last is not None and last.namespace == self._me.namespace and has_ended(last)

    def take(self, n: int) -> None:
        if not self.free():
            raise BlockingIOError
        with self._record.guarded():
            last = self._record.read()
            orphaned = self._orphaned(last)  # asked before the value: it can't release after that
            if not orphaned and self.semaphore.value == 0:
                raise BlockingIOError
            self._record.write(self._me)
            try:
                self.semaphore.take()
            except BlockingIOError:
                if not orphaned:  # somebody who keeps no record was quicker
                    self._record.write(_NOBODY)
                    raise

    def holder(self) -> int | None:
        last = self._record.read()
        if last is None or last.namespace != self._me.namespace or has_ended(last) or self.semaphore.value:
            return None
        return last.pid

    def _let_go(self) -> None:
        try:
            super()._let_go()
        finally:
            self._record.close()


class PosixSemaphore(Semaphore):
    """A named POSIX semaphore."""

    def __init__(self, handle: _SemaphoreHandle) -> None:
        self._handle = handle

    async def acquire(self, n: int = 1) -> None:
        await self._handle.obtain(self._take, self._checked(n))

    def acquire_nowait(self, n: int = 1) -> None:
        self._handle.obtain_nowait(self._take, self._checked(n))

    def _checked(self, n: int) -> int:
        most = 1 if isinstance(self._handle, _RobustHandle) else posix.LARGEST_VALUE
        if not 1 <= n <= most:
            raise ValueError(f"{self._handle.name}: n={n}: must be from 1 to {most:,}")
        return n

    def _take(self, n: int) -> None:
        handle = self._handle
        handle.check()
        handle.take(n)
        handle.zeroing.announce()
        if not handle.counter:
            handle.held += n

    def release(self, n: int = 1) -> None:
        handle = self._handle
        handle.checked()
        self._checked(n)
        if not handle.counter and n > handle.held:
            raise RuntimeError(
                f"{handle.name}: release({n}), but this object holds {handle.held}; a semaphore that one raises and another "
                "lowers is opened with counter=True"
            )
        self._asked(handle.give, n)
        if not handle.counter:
            handle.held -= n
        handle.released(n)

    def _asked(self, call: Callable[..., Result], *arguments: object) -> Result:
        self._handle.checked()
        try:
            return call(*arguments)
        except OSError as error:
            raise self._handle.explain(error) from None

    @property
    def value(self) -> int:
        self._handle.checked()
        return self._handle.semaphore.value

    async def wait_zero(self) -> None:
        await self._handle.zeroing.attempt(self._be_zero)

    def _be_zero(self) -> None:
        self._handle.check()
        if self._handle.semaphore.value:
            raise BlockingIOError

    def locked(self) -> bool:
        return not self._asked(self._handle.free)

    def holder(self) -> int | None:
        return self._asked(self._handle.holder)

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
    unlink: bool = False,
    value: int = 1,
    counter: bool = False,
    robust: bool = False,
) -> PosixSemaphore:
    """Open a semaphore. ObjectMissing if there is none (unless `create`), ObjectExists if there is one and `exclusive`.

    `exclusive` creates, too; a new one has `value` and `mode`, whatever the umask. `robust` is for value 1 only: AddressError for
    another one, WrongObject if the semaphore that is there has more. `unlink` removes it on close, if it is still the same.
    """
    name = name_of(address, posix.LONGEST_NAME)
    if value > posix.LARGEST_VALUE:
        raise address.error(f"value={value}: a semaphore's largest value is {posix.LARGEST_VALUE:,}")
    if robust and (counter or value != 1):
        raise address.error("robust is for a lock: it goes with value=1 and without counter")
    try:
        handle = _open(address.url, name, mode, value if create or exclusive else None, exclusive, robust)
    except OSError as error:
        raise translate(error, address.url) from None
    if robust and handle.semaphore.value > 1:
        handle.close()
        raise WrongObject(errno.EINVAL, f"{address.url}: the semaphore is there, and above 1; robust is for a lock")
    handle.counter, handle.unlink = counter, unlink
    return PosixSemaphore(handle)


def _open(url: str, name: str, mode: int, value: int | None, exclusive: bool, robust: bool) -> _SemaphoreHandle:
    """Open it; without `value`, only one that is there."""
    for _ in range(_TRIES):
        try:
            if value is not None:
                _create(name, mode, value, exclusive)
            return _attach(url, name, robust)
        except FileNotFoundError:
            if value is None:
                raise
    raise FileNotFoundError(errno.ENOENT, f"created {_TRIES} times, and each time removed again: {posix.path_of(name)}")


def _create(name: str, mode: int, value: int, exclusive: bool) -> None:
    try:
        posix.create(name, mode, value).close()
    except FileExistsError:
        if exclusive:
            raise
    else:
        os.chmod(posix.path_of(name), mode)  # sem_open(3) leaves out what the umask says


def _attach(url: str, name: str, robust: bool) -> _SemaphoreHandle:
    """Open the semaphore together with what its file is, and with its record."""
    path = posix.path_of(name)
    record = HolderRecord(path) if robust else None
    try:
        shape = os.lstat(path)
        semaphore = posix.attach(name)
        if same_file(path, shape if record is None else record.shape()):
            return (
                _SemaphoreHandle(semaphore, url, path, shape)
                if record is None
                else _RobustHandle(semaphore, url, path, shape, record)
            )
        semaphore.close()
        raise FileNotFoundError(errno.ENOENT, f"replaced while it was being opened: {path}")
    except OSError:
        if record is not None:
            record.close()
        raise
