"""Locks on a range of a file's bytes (fcntl(2)), shared or exclusive.

By default a lock belongs to the open file (F_OFD_SETLK): each object excludes all others, and the lock ends with its holder. A
child that is forked while the lock is held shares it. With `owner=process` it is a classic lock (F_SETLK), as lockf(3) makes it:
it ends with the process, whatever its children do. The two kinds exclude each other. The file stays, and nothing is written to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, NamedTuple, cast

import anyio

from aipc._address import Address
from aipc._io.errors import os_error, translate
from aipc._io.polling import Polling
from aipc._sys import byte_locks
from aipc._sys.byte_locks import TOP, Conflict, Range
from aipc._sys.proc.file_locks import awaited, open_file_holder
from aipc.exceptions import AddressError

from . import process_locks
from .file_lock_base import EXCLUSIVE_ACCESS, SHARED_ACCESS, HeldFile, HeldFileLock, lock_path, open_lock_file


class Wanted(NamedTuple):
    """The bytes to lock, as lockf(3) counts them, from the file's beginning or its end."""

    start: int
    length: int
    from_end: bool

    def range(self, size: int) -> Range:
        """The bytes of a file of `size`. ValueError if they can't be locked."""
        start = self.start + size if self.from_end else self.start
        end = start + self.length if self.length else TOP
        where = Range(min(start, end), max(start, end))
        if not 0 <= where.start < where.end <= TOP:
            size_note = f", from the end of {size:,} bytes" if self.from_end else ""
            raise ValueError(
                f"start={self.start}, length={self.length}{size_note}: no byte before 0 or after {TOP - 1:,} can be locked"
            )
        return where


class HeldRange(NamedTuple):
    """A lock that somebody has on a file's bytes (struct flock of fcntl(2))."""

    pid: int | None
    """The holder's; None if the kernel does not tell it."""
    shared: bool
    """Shared (F_RDLCK), or exclusive (F_WRLCK)."""
    start: int
    """The first byte."""
    length: int
    """How many; 0: to the end of the file, wherever that will be."""


class _RangeHandle(HeldFile):
    """Owns the open file. `wanted`: the range as the options say; `locked_range`: its bytes while held; `process`: a classic lock."""

    __slots__ = ("locked_range", "process", "upgrading", "wanted")

    def __init__(self, name: str, path: str, reopen: Callable[[], int], wanted: Wanted, *, shared: bool, process: bool) -> None:
        super().__init__(name, path, reopen, shared=shared)
        self.wanted: Wanted = wanted
        self.locked_range: Range = Range(0, TOP)
        self.process: bool = process
        self.upgrading: Polling = Polling(
            self, lambda: self.held == 1 and self._free(shared=False), f"file {os.path.realpath(path)}"
        )

    @property
    def where(self) -> Range:
        """The range that is held; if none is, the one that would be locked now. AddressError if the file is too short for it."""
        if self.held:
            return self.locked_range
        try:
            return self.wanted.range(os.fstat(self.fd).st_size if self.wanted.from_end else 0)
        except ValueError as error:
            raise AddressError(f"{self.name}: {error}") from None

    def _may_succeed(self) -> bool:
        return super()._may_succeed() and (bool(self.held) or self._free(shared=self.shared))

    def _free(self, *, shared: bool) -> bool:
        try:
            return self._in_the_way(shared=shared) is None
        except (OSError, AddressError):
            return True  # the try raises it

    def locked(self) -> bool:
        """Whether this object holds its lock, or another lock keeps it out."""
        return bool(self.held) or self._in_the_way(shared=self.shared) is not None

    def holder(self) -> int | None:
        """The pid of a process that has a lock on one of these bytes; None if there is none, or the kernel does not tell it."""
        if self.held:
            return os.getpid()
        found = self._in_the_way(shared=False)
        return None if found is None else self._holder_of(found)

    def conflict(self, shared: bool) -> HeldRange | None:
        """The first lock that keeps out a shared lock, or an exclusive one."""
        found = self._in_the_way(shared=shared)
        if found is None:
            return None
        start, end = found.where
        return HeldRange(self._holder_of(found), found.shared, start, 0 if end == TOP else end - start)

    def _holder_of(self, found: Conflict) -> int | None:
        return open_file_holder(self.fd, b"OFDLCK", found.where) if found.pid == -1 else found.pid or None

    def _in_the_way(self, *, shared: bool) -> Conflict | None:
        claim = process_locks.claimed(self.fd, self, self.where, shared=shared) if self.process else None
        return claim or byte_locks.in_the_way(self.fd, self.where, shared=shared, process=self.process)

    def _lock(self) -> None:
        self.locked_range = self.where
        self.convert(shared=self.shared)

    def convert(self, *, shared: bool) -> None:
        """Lock, or change the kind of the lock. BlockingIOError: nothing changed."""
        if self.process:
            process_locks.take(self.fd, self, self.locked_range, shared=shared)
        else:
            byte_locks.lock(self.fd, self.locked_range, shared=shared, process=False)

    def _unlock(self) -> None:
        if self.process:
            process_locks.give_back(self.fd, self)
        else:
            byte_locks.unlock(self.fd, self.locked_range, process=False)

    def _kernel_waiters(self) -> bool:
        return awaited(self.fd, (b"OFDLCK", b"POSIX"), self.locked_range)

    def give_back(self) -> None:
        super().give_back()
        self.upgrading.wake()

    def checked_held(self, *, shared: bool) -> None:
        """RuntimeError unless it is held; AccessDenied if the file is not open for that kind of lock."""
        self.check()
        if not self.held:
            raise RuntimeError(f"{self.name}: not held by this object, so it cannot be changed")
        access = fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE
        if access == (os.O_WRONLY if shared else os.O_RDONLY):
            kind, permission = ("a shared", "read") if shared else ("an exclusive", "write")
            raise os_error(errno.EACCES, self.name, f"{kind} lock needs permission to {permission} the file")

    def _let_go(self) -> None:
        try:
            super()._let_go()
        finally:
            self.upgrading.close()


class ByteRangeLock(HeldFileLock):
    """fcntl(2) on a range of bytes. Each object is a lock of its own, and excludes other objects in the same process."""

    _handle: _RangeHandle

    def __init__(self, handle: _RangeHandle) -> None:
        self._handle = handle

    async def upgrade(self) -> None:
        """Make the shared lock exclusive, as soon as nobody shares it. Nobody else gets an exclusive lock in between.

        If two holders upgrade, each waits for the other for ever: use a timeout. Cancelled: still held, and shared. RuntimeError
        if it is not held, AccessDenied if the file cannot be written.
        """
        await self._handle.upgrading.attempt(self._upgrade)

    def upgrade_nowait(self) -> None:
        """`upgrade` without waiting. WouldBlock: still held, and shared."""
        try:
            self._handle.upgrading.attempt_nowait(self._upgrade)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{self._handle.name}: shared by others, too; await upgrade() waits for them") from None

    def _upgrade(self) -> None:
        handle = self._handle
        handle.checked_held(shared=False)
        if not handle.exclusive:
            if handle.held > 1:
                raise BlockingIOError
            handle.convert(shared=False)
            handle.exclusive = True

    def downgrade(self) -> None:
        """Make the exclusive lock shared. Nobody gets an exclusive lock in between.

        RuntimeError if it is not held, AccessDenied if the file cannot be read.
        """
        self._handle.call(self._downgrade)

    def _downgrade(self) -> None:
        handle = self._handle
        handle.checked_held(shared=True)
        if handle.exclusive:
            handle.convert(shared=True)
            handle.exclusive = False
            handle.polling.notify()

    def locked(self) -> bool:
        """Whether this object holds the lock, or another lock keeps it out. Only an exclusive lock keeps out a `shared` one."""
        return self._handle.call(self._handle.locked)

    def holder(self) -> int | None:
        return self._handle.call(self._handle.holder)

    def conflict(self, *, shared: bool | None = None) -> HeldRange | None:
        """The first lock that keeps this one out (F_GETLK): its holder, its bytes, its kind. None if there is none.

        `shared` is the kind to ask for, by default this object's own. `shared=False` also finds shared locks.
        """
        handle = self._handle
        return handle.call(handle.conflict, handle.shared if shared is None else shared)

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        """The locked file, for a block that reads and writes it, from its beginning. The lock stays, also with `owner=process`.

        The file's permissions decide whether it can be read, written, or both. Leaving the block flushes the buffer. Its calls are
        plain ones, and may wait for the disk. RuntimeError unless this object holds the lock.
        """
        handle = self._handle
        handle.checked()
        if not handle.held:
            raise RuntimeError(f"{handle.name}: not held by this object; acquire it before you use the file")
        access = fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_ACCMODE
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb"}.get(access, "r+b")
        os.lseek(handle.fd, 0, os.SEEK_SET)
        with open(handle.fd, mode, closefd=False) as file:
            yield cast(BinaryIO, file)


def check(address: Address, *, start: int = 0, length: int = 0, whence: str = "start", **_others: object) -> None:
    """AddressError for a range that no file has."""
    try:
        if whence == "start":
            Wanted(start, length, False).range(0)
    except ValueError as error:
        raise address.error(str(error)) from None


async def open_range(
    address: Address,
    *,
    create: bool = True,
    exclusive: bool = False,
    mode: int = 0o600,
    shared: bool = False,
    start: int = 0,
    length: int = 0,
    whence: str = "start",
    owner: str = "file",
) -> ByteRangeLock:
    """Open a file for locking `length` bytes from `start` on. A missing file is created, unless `create=False`.

    As for lockf(3), a length of 0 reaches to the end, however long the file gets; a negative length means the bytes before
    `start`; the bytes need not exist. With `whence="end"`, `start` counts from the file's end at the moment of locking (SEEK_END):
    -10 is the tenth byte before it. Locking then raises AddressError if the file is too short.

    AccessDenied: the file cannot be written, or with `shared` cannot be read. WrongObject: the path is a symbolic link, or no
    plain file.
    """
    wanted = Wanted(start, length, whence == "end")
    path = lock_path(address)
    accesses = SHARED_ACCESS if shared else EXCLUSIVE_ACCESS
    reopen = partial(open_lock_file, address, path, accesses, create or exclusive, False, mode)
    try:
        fd = open_lock_file(address, path, accesses, create or exclusive, exclusive, mode)
    except OSError as error:
        raise translate(error, address.url) from None
    handle = _RangeHandle(address.url, path, reopen, wanted, shared=shared, process=owner == "process")
    handle.fd = fd
    return ByteRangeLock(handle)
