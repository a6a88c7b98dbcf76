"""Locks on files: flock(2).

The kernel owns the lock: it is free again when its holder dies. A child that is forked while the lock is held shares it, until
both have closed it. The file stays, because removing it can let two processes hold "the" lock on two different files. With
`unlink` the file is removed on close, under the lock, if nobody else holds it. aipc's other objects then notice that their file
has lost its name, and use the new one; other programs would not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import partial

from aipc._address import Address
from aipc._io.errors import translate
from aipc._sys.files import same_file
from aipc._sys.proc.file_locks import awaited, complete, holders, open_file_holder

from .file_lock_base import SHARED_ACCESS, HeldFile, HeldFileLock, lock_path, open_lock_file


class _FlockHandle(HeldFile):
    """Owns the open file; `unlink` says whether to remove it on close."""

    __slots__ = ("_unlink",)

    def __init__(self, name: str, path: str, reopen: Callable[[], int], *, shared: bool, unlink: bool) -> None:
        super().__init__(name, path, reopen, shared=shared)
        self._unlink = unlink

    def _lock(self) -> None:
        fcntl.flock(self.fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def _kernel_waiters(self) -> bool:
        return awaited(self.fd, (b"FLOCK",))

    def _closing(self) -> None:
        if not self._unlink:
            return
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if same_file(self._path, os.fstat(self.fd)):
                os.unlink(self._path)
        except OSError:
            pass  # another holder has it, or it is removed: leave it
        finally:
            self._unlock()  # the descriptor may stay open: in a forked child, or until a classic lock is released

    def locked(self) -> bool:
        """Whether anybody holds it. Where /proc/locks does not show all locks, trying is the only way to know."""
        return bool(self.held or holders(self.fd, b"FLOCK") or not (complete() or self._free()))

    def holder(self) -> int | None:
        """A living process that holds it; None if there is none, or it cannot be seen from here."""
        if self.held:
            return os.getpid()
        took = holders(self.fd, b"FLOCK")
        living = next((pid for pid in took if pid > 0 and os.path.exists(f"/proc/{pid}")), None)
        if living is None and (took or not (complete() or self._free())):
            return open_file_holder(self.fd, b"FLOCK")
        return living

    def _free(self) -> bool:
        """Lock, and unlock at once; return whether that worked."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._unlock()
        self.polling.notify(1)  # a task may have found it locked in between
        return True


class FileLock(HeldFileLock):
    """flock(2) on a whole file. Each object is a lock of its own, and excludes other objects in the same process."""

    _handle: _FlockHandle

    def __init__(self, handle: _FlockHandle) -> None:
        self._handle = handle

    def locked(self) -> bool:
        return self._handle.call(self._handle.locked)

    def holder(self) -> int | None:
        return self._handle.call(self._handle.holder)


async def open_flock(
    address: Address,
    *,
    create: bool = True,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool = False,
    shared: bool = False,
) -> FileLock:
    """Open a lock file. A missing file is created, unless `create=False`. `shared` allows several holders, all shared.

    The file is opened for writing, too, where that is permitted, because NFS requires it for an exclusive lock (flock(2)).
    WrongObject if the path is a symbolic link or not a plain file. A new file has exactly `mode`, whatever the umask. `unlink`
    removes the file on close, if nobody holds the lock then.
    """
    path = lock_path(address)
    reopen = partial(open_lock_file, address, path, SHARED_ACCESS, create or exclusive, False, mode)
    try:
        fd = open_lock_file(address, path, SHARED_ACCESS, create or exclusive, exclusive, mode)
    except OSError as error:
        raise translate(error, address.url) from None
    handle = _FlockHandle(address.url, path, reopen, shared=shared, unlink=unlink)
    handle.fd = fd
    return FileLock(handle)
