"""Locks on files: flock(2).

The kernel owns the lock: it is free again when its holder dies. A child forked while it is held shares it, until both have
closed it. The file stays, because removing it can let two processes hold "the" lock on two different files. Who asks for
`unlink` has it removed under the lock, when it is free; aipc then finds out that its file is no longer the one with that name,
and goes on with the new one, but other programs would not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import partial

from aipc._address import Address
from aipc._io.errors import translate
from aipc._sys.files import same_file
from aipc._sys.proc_locks import awaited, complete, holders, open_file_holder

from .file_lock_base import SHARED_ACCESS, HeldFile, HeldFileLock, lock_path, open_lock_file


class _FlockHandle(HeldFile):
    """Owns the open file; `unlink` is whether to remove it on close."""

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
            pass  # somebody else holds it, or has removed it: it is theirs
        finally:
            self._unlock()  # the descriptor may stay open: in a forked child, or until a classic lock is released

    def locked(self) -> bool:
        """Whether anybody holds it. Where /proc/locks does not show all, to try is the only way to know."""
        return bool(self.held or holders(self.fd, b"FLOCK") or not (complete() or self._free()))

    def holder(self) -> int | None:
        """A process that holds it and lives; None if there is none, or it can't be seen from here."""
        if self.held:
            return os.getpid()
        took = holders(self.fd, b"FLOCK")
        living = next((pid for pid in took if pid > 0 and os.path.exists(f"/proc/{pid}")), None)
        if living is None and (took or not (complete() or self._free())):
            return open_file_holder(self.fd, b"FLOCK")
        return living

    def _free(self) -> bool:
        """Take it, and give it back at once."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._unlock()
        self.polling.notify(1)  # to somebody who found it taken in between
        return True


class FileLock(HeldFileLock):
    """flock(2) on a whole file; each object is a lock of its own, and so excludes others in the same process."""

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
    """Open a lock file; it is made if it is missing, unless `create=False`. `shared` lets several holders in, all shared.

    It is opened for writing, too, where that is permitted, because NFS wants that for an exclusive lock (flock(2)).
    WrongObject if the path is a symbolic link or no plain file. `mode` is a new file's, whatever the umask. `unlink` removes
    the file on close, if nobody holds the lock then.
    """
    path = lock_path(address)
    reopen = partial(open_lock_file, address, path, SHARED_ACCESS, create or exclusive, False, mode)
    handle = _FlockHandle(address.url, path, reopen, shared=shared, unlink=unlink)
    try:
        handle.fd = open_lock_file(address, path, SHARED_ACCESS, create or exclusive, exclusive, mode)
    except OSError as error:
        raise translate(error, address.url) from None
    return FileLock(handle)
