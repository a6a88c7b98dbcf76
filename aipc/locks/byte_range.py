"""Locks on a range of a file's bytes (fcntl(2)), shared or exclusive.

By default a lock belongs to the open file (F_OFD_SETLK): each object excludes all others, and the lock ends with its holder. A
child that is forked while the lock is held shares it. With `owner=process` it is a classic lock (F_SETLK), as lockf(3) makes it:
it ends with the process, whatever its children do. The two kinds exclude each other. The file stays, and nothing is written to it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial

from aipc._address import Address
from aipc._io.errors import os_error, translate
from aipc._io.polling import Polling
from aipc._sys import byte_locks
from aipc._sys.byte_locks import TOP, Range
from aipc._sys.proc.file_locks import awaited, open_file_holder

from . import process_locks
from .file_lock_base import EXCLUSIVE_ACCESS, SHARED_ACCESS, HeldFile, HeldFileLock, lock_path, open_lock_file


class _RangeHandle(HeldFile):
    """Owns the open file. `where` is the range; `process` says whether the lock is a classic one."""

    __slots__ = ("process", "upgrading", "where")

    def __init__(self, name: str, path: str, reopen: Callable[[], int], where: Range, *, shared: bool, process: bool) -> None:
        super().__init__(name, path, reopen, shared=shared)
        self.where: Range = where
        self.process: bool = process
        self.upgrading: Polling = Polling(
            self, lambda: self.held == 1 and self._free(shared=False), f"file {os.path.realpath(path)}"
        )

    def _may_succeed(self) -> bool:
        return super()._may_succeed() and (bool(self.held) or self._free(shared=self.shared))

    def _free(self, *, shared: bool) -> bool:
        try:
            if self.process and process_locks.claimed(self.fd, self, self.where, shared=shared):
                return False
            return byte_locks.in_the_way(self.fd, self.where, shared=shared, process=self.process) is None
        except OSError:
            return True  # trying will tell

    def locked(self) -> bool:
        """Whether anybody holds a lock on one of these bytes."""
        return bool(self.held) or self._in_the_way() is not None

    def holder(self) -> int | None:
        """The pid of one holder; None if there is none, or it is unknown."""
        pid = os.getpid() if self.held else self._in_the_way()
        return open_file_holder(self.fd, b"OFDLCK", self.where) if pid == -1 else pid or None

    def _in_the_way(self) -> int | None:
        """The pid whose lock conflicts with an exclusive one; -1 for an open file's lock, 0 for a pid that we cannot see."""
        if self.process and process_locks.claimed(self.fd, self, self.where, shared=False):
            return os.getpid()
        return byte_locks.in_the_way(self.fd, self.where, shared=False, process=self.process)

    def _lock(self) -> None:
        self.convert(shared=self.shared)

    def convert(self, *, shared: bool) -> None:
        """Lock, or change the kind of the lock. BlockingIOError: nothing changed."""
        if self.process:
            process_locks.take(self.fd, self, self.where, shared=shared)
        else:
            byte_locks.lock(self.fd, self.where, shared=shared, process=False)

    def _unlock(self) -> None:
        if self.process:
            process_locks.give_back(self.fd, self)
        else:
            byte_locks.unlock(self.fd, self.where, process=False)

    def _kernel_waiters(self) -> bool:
        return awaited(self.fd, (b"OFDLCK", b"POSIX"), self.where)

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
        self._handle.upgrading.attempt_nowait(self._upgrade)

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
        return self._handle.call(self._handle.locked)

    def holder(self) -> int | None:
        return self._handle.call(self._handle.holder)


async def open_range(
    address: Address,
    *,
    create: bool = True,
    exclusive: bool = False,
    mode: int = 0o600,
    shared: bool = False,
    start: int = 0,
    length: int = 0,
    owner: str = "file",
) -> ByteRangeLock:
    """Open a file for locking `length` bytes from `start` on. A missing file is created, unless `create=False`.

    As for lockf(3), a length of 0 reaches to the end, however long the file becomes; a negative length means the bytes before
    `start`; and the bytes need not exist. AccessDenied if the file cannot be written, or with `shared` cannot be read. WrongObject
    if the path is a symbolic link or not a plain file.
    """
    where = Range(start, start + length if length else TOP) if length >= 0 else Range(start + length, start)
    if not 0 <= where.start < where.end <= TOP:
        raise address.error(f"start={start}, length={length}: no byte before 0 or after {TOP - 1:,} can be locked")
    path = lock_path(address)
    accesses = SHARED_ACCESS if shared else EXCLUSIVE_ACCESS
    reopen = partial(open_lock_file, address, path, accesses, create or exclusive, False, mode)
    handle = _RangeHandle(address.url, path, reopen, where, shared=shared, process=owner == "process")
    try:
        handle.fd = open_lock_file(address, path, accesses, create or exclusive, exclusive, mode)
    except OSError as error:
        raise translate(error, address.url) from None
    return ByteRangeLock(handle)
