"""POSIX semaphores by name (sem_overview(7)).

The kernel knows no holder: what a killed process held stays taken. With `robust`, a semaphore of value 1 has a record with its
holder's pid, and a waiter takes it over from a dead holder. With `counter` it is a plain counter, which anybody may raise.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import ClassVar

from aipc._address import Address
from aipc._io.errors import translate
from aipc._sys.files import remove_same_file, same_file
from aipc._sys.holder_record import HolderRecord
from aipc._sys.posix import semaphore as posix
from aipc._sys.posix.name import name_of
from aipc._sys.processes import Process, has_ended, this_process
from aipc.exceptions import LimitExceeded, UnsupportedOperation, WrongObject

from .counted import CountedHandle, CountedSemaphore

_NOBODY = Process(0, 0, 0)
_TRIES = 100


class _SemaphoreHandle(CountedHandle):
    """Owns a semaphore."""

    LARGEST: ClassVar[int] = posix.LARGEST_VALUE
    AS_COUNTER: ClassVar[str] = "counter=True"

    __slots__ = ("_path", "semaphore", "shape")

    def __init__(self, semaphore: posix.NamedSemaphore, url: str, path: str, shape: os.stat_result) -> None:
        super().__init__(url, f"file {path}")
        self.semaphore: posix.NamedSemaphore = semaphore
        self._path = path
        self.shape: os.stat_result = shape

    def value(self) -> int:
        return self.semaphore.value

    def take(self, n: int) -> None:
        """Take all `n`, or raise BlockingIOError. One by one: no system call takes several."""
        if n > 1 and self.semaphore.value < n:
            raise BlockingIOError
        taken = 0
        try:
            for taken in range(n):  # noqa: B007 - the number taken before a failure
                self.semaphore.take()
        except BlockingIOError:
            self.give(taken)
            raise

    def give(self, n: int) -> None:
        """Add `n`. LimitExceeded, and nothing added, if the value would be over the largest."""
        if n > posix.LARGEST_VALUE - self.semaphore.value:
            raise LimitExceeded(
                errno.EOVERFLOW,
                f"{self.name}: {n:,} more than {self.semaphore.value:,}: a semaphore's largest value is {posix.LARGEST_VALUE:,}",
            )
        for _ in range(n):
            self.semaphore.give()

    def be_zero(self) -> None:
        if self.semaphore.value:
            raise BlockingIOError

    def holder(self) -> int | None:
        return None  # the kernel does not know

    def _kernel_waiters(self) -> bool:
        return posix.sleepers(self._path, self.shape) > 0

    def _let_go(self) -> None:
        held, self.held = self.held, 0
        try:
            self.give(held)
            if self.unlink and same_file(self._path, self.shape):
                self.semaphore.unlink()
        except FileNotFoundError:
            pass  # removed in between
        except OSError as error:
            raise translate(error, self.name) from None
        finally:
            self.semaphore.close()


class _RobustHandle(_SemaphoreHandle):
    """Owns a semaphore of value 1 with a record of its holder.

    A process writes its pid into the record *before* it takes the semaphore, both under the record's guard; releasing needs no
    record. So the record is valid only while the value is 0, and a kill at any moment leaves no semaphore taken by an unknown
    process. A recorded process that has ended cannot release the semaphore any more: whether the value is 0 or 1, the next taker
    gets it.
    """

    LARGEST: ClassVar[int] = 1

    __slots__ = ("_me", "_record")

    def __init__(
        self,
        semaphore: posix.NamedSemaphore,
        url: str,
        path: str,
        shape: os.stat_result,
        record: HolderRecord,
        me: Process,
    ) -> None:
        super().__init__(semaphore, url, path, shape)
        self._record = record
        self._me = me

    def free(self) -> bool:
        return self.semaphore.value > 0 or self._orphaned(self._record.read())

    def _orphaned(self, last: Process | None) -> bool:
        return last is not None and last.namespace == self._me.namespace and has_ended(last)

    def take(self, n: int) -> None:
        if not self.free():
            raise BlockingIOError
        with self._record.guarded():
            last = self._record.read()
            orphaned = self._orphaned(last)  # checked before the value: afterwards it cannot release
            if not orphaned and self.semaphore.value == 0:
                raise BlockingIOError
            self._record.write(self._me)
            try:
                self.semaphore.take()
            except BlockingIOError:
                if not orphaned:  # another process, without a record, was faster
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


class PosixSemaphore(CountedSemaphore):
    """A named POSIX semaphore."""


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
    """Open a semaphore. ObjectMissing if there is none (unless `create`), ObjectExists with `exclusive` if there is one.

    `exclusive` also creates. A new semaphore has `value`, and exactly `mode`, whatever the umask. `robust` needs value 1:
    AddressError for another value, WrongObject if the existing semaphore has a larger one. `unlink` removes the semaphore on
    close, if the name still belongs to it.
    """
    name = name_of(address, posix.LONGEST_NAME)
    if value > posix.LARGEST_VALUE:
        raise address.error(f"value={value}: a semaphore's largest value is {posix.LARGEST_VALUE:,}")
    if robust and (counter or value != 1):
        raise address.error("robust is for a lock: use it with value=1 and without counter")
    try:
        me = _myself(address) if robust else None
        handle = _open(address.url, name, mode, value if create or exclusive else None, exclusive, me)
    except OSError as error:
        raise translate(error, address.url) from None
    if robust and handle.semaphore.value > 1:
        handle.close()
        raise WrongObject(errno.EINVAL, f"{address.url}: the semaphore exists with a value above 1; robust is for a lock")
    handle.counter, handle.unlink = counter, unlink
    return PosixSemaphore(handle)


def _myself(address: Address) -> Process:
    try:
        return this_process()
    except FileNotFoundError:
        raise UnsupportedOperation(
            f"{address.url}: robust needs /proc to tell processes apart; it is not mounted here"
        ) from None


def _open(url: str, name: str, mode: int, value: int | None, exclusive: bool, me: Process | None) -> _SemaphoreHandle:
    """Open the semaphore; without `value`, only an existing one. `me`: keep a record of its holder."""
    for _ in range(_TRIES):
        made = None
        try:
            if value is not None:
                made = _create(name, mode, value, exclusive)
            return _attach(url, name, me)
        except FileNotFoundError:
            if value is None:
                raise
        except BaseException:
            if made is not None:
                remove_same_file(posix.path_of(name), made)
            raise
    raise FileNotFoundError(errno.ENOENT, f"created {_TRIES} times, and each time removed again: {posix.path_of(name)}")


def _create(name: str, mode: int, value: int, exclusive: bool) -> os.stat_result | None:
    """Create it, and return its file's status; None if there is one already."""
    try:
        posix.create(name, mode, value).close()
    except FileExistsError:
        if exclusive:
            raise
        return None
    path = posix.path_of(name)
    made = os.lstat(path)
    try:
        os.chmod(path, mode)  # sem_open(3) applies the umask
    except BaseException:
        remove_same_file(path, made)
        raise
    return made


def _attach(url: str, name: str, me: Process | None) -> _SemaphoreHandle:
    """Open the semaphore with its file's status and its record.

    It needs one descriptor at a time: a process that could create the semaphore can open it.
    """
    path = posix.path_of(name)
    shape = os.lstat(path)
    if shape.st_size < posix.SIZE:
        raise WrongObject(errno.EINVAL, f"{url}: no semaphore: {path} has {shape.st_size} bytes, and one has {posix.SIZE}")
    with ExitStack() as unless_opened:
        semaphore = posix.attach(name)
        unless_opened.callback(semaphore.close)
        if me is None:
            handle = _SemaphoreHandle(semaphore, url, path, shape)
        else:
            record = HolderRecord(path)
            unless_opened.callback(record.close)
            handle = _RobustHandle(semaphore, url, path, record.shape(), record, me)
        if not same_file(path, shape) or not os.path.samestat(shape, handle.shape):
            raise FileNotFoundError(errno.ENOENT, f"replaced while it was being opened: {path}")
        unless_opened.pop_all()
    return handle
