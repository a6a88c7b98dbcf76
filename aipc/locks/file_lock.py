"""Locks on files: flock(2).

The kernel owns the lock: it is free again when its holder dies. A child forked while it is held shares it, until both have
closed it. The file stays, because removing it can let two processes hold "the" lock on two different files. Who asks for
`unlink` has it removed under the lock, when it is free; aipc then finds out that its file is no longer the one with that name,
and goes on with the new one, but other programs would not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from functools import partial

from aipc._address import Address
from aipc._io.errors import named, translate
from aipc._io.files import same_file
from aipc._sys.proc_locks import holders
from aipc.abc import Lock
from aipc.exceptions import WrongObject

from .base import LockHandle


class _FlockHandle(LockHandle):
    """Owns the open file, and counts this object's holders: one, or several where the lock is shared."""

    __slots__ = ("_path", "_reopen", "_unlink", "fd", "held", "shared")

    def __init__(self, name: str, path: str, fd: int, reopen: Callable[[], int], *, shared: bool, unlink: bool) -> None:
        super().__init__(name, lambda: self.held == 0 or self.shared)
        self.fd: int = fd
        self.held: int = 0
        self.shared: bool = shared
        self._reopen = reopen
        self._path = path
        self._unlink = unlink

    def lock(self) -> None:
        """Lock the file that has the name now. BlockingIOError while somebody else holds it."""
        while True:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if same_file(self._path, os.fstat(self.fd)):
                return
            stale, self.fd = self.fd, self._reopen()
            os.close(stale)

    def _let_go(self) -> None:
        self.held = 0
        fd, self.fd = self.fd, -1
        try:
            if self._unlink:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if same_file(self._path, os.fstat(fd)):
                    os.unlink(self._path)
        except OSError:
            pass  # somebody else holds it, or has removed it: it is theirs
        finally:
            os.close(fd)


class FileLock(Lock):
    """flock(2) on a whole file; each object is a lock of its own, and so excludes others in the same process."""

    def __init__(self, handle: _FlockHandle) -> None:
        self._handle = handle

    async def acquire(self) -> None:
        await self._handle.polling.attempt(self._take)

    def acquire_nowait(self) -> None:
        self._handle.polling.attempt_nowait(self._take)

    def _take(self) -> None:
        handle = self._handle
        handle.check()
        if handle.held and not handle.shared:
            raise BlockingIOError
        if not handle.held:
            handle.lock()
        handle.held += 1

    def release(self) -> None:
        handle = self._handle
        handle.checked()
        if not handle.held:
            raise RuntimeError(f"{handle.name}: released, but this object does not hold it")
        handle.held -= 1
        if not handle.held:
            fcntl.flock(handle.fd, fcntl.LOCK_UN)
        handle.polling.wake()

    def locked(self) -> bool:
        return bool(self._handle.held or self._holders())

    def holder(self) -> int | None:
        return next(iter(self._holders()), None)

    def _holders(self) -> list[int]:
        self._handle.checked()
        return holders(os.fstat(self._handle.fd), "FLOCK")

    async def aclose(self) -> None:
        self._handle.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name}>"


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

    WrongObject if the path is a symbolic link or no plain file. `mode` is a new file's, whatever the umask. `unlink` removes
    the file on close, if nobody holds the lock then.
    """
    if not address.path or address.authority:
        raise address.error("needs a path, as in flock:/run/app.lock")
    try:
        path = os.path.abspath(address.path)  # noqa: ASYNC240 - asks for the working directory at most
        fd = _open(address, path, create or exclusive, exclusive, mode)
        reopen = partial(_open, address, path, create or exclusive, False, mode)
        return FileLock(_FlockHandle(address.url, path, fd, reopen, shared=shared, unlink=unlink))
    except OSError as error:
        raise translate(error, address.url) from None


def _open(address: Address, path: str, create: bool, exclusive: bool, mode: int) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            if not create:
                return _plain(os.open(path, flags), address)
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            if exclusive:
                raise named(errno.EEXIST, address.url, "the file exists, and exclusive was asked for") from None
            try:
                return _plain(os.open(path, flags), address)
            except FileNotFoundError:
                continue  # it went away in between
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise WrongObject(errno.ELOOP, f"{address.url}: a symbolic link; a lock file must be a file") from None
            raise
        os.fchmod(fd, mode)
        return fd


def _plain(fd: int, address: Address) -> int:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise WrongObject(errno.EINVAL, f"{address.url}: not a plain file")
