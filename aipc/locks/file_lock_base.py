"""The common base of file locks: opening the file, counting an object's holders, following the file that has the name."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator

from aipc._address import Address
from aipc._io.errors import os_error, translate
from aipc._sys.create_or_open import create_or_open
from aipc._sys.files import remove_same_file, same_file
from aipc._texts.shown import Fact, counted, parked, shown, state
from aipc.abc import Lock
from aipc.exceptions import WrongObject

from . import process_locks
from .base import LockHandle

_NOT_SO = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY})
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
SHARED_ACCESS = (os.O_RDWR, os.O_RDONLY)
EXCLUSIVE_ACCESS = (os.O_RDWR, os.O_WRONLY)


class HeldFile(LockHandle):
    """Owns the open file, and counts this object's holders: one, or several if the lock is shared."""

    __slots__ = ("_passes_on", "_path", "_reopen", "exclusive", "fd", "held", "shared")

    def __init__(self, name: str, path: str, reopen: Callable[[], int], *, shared: bool) -> None:
        super().__init__(name, self._may_succeed, f"file {os.path.realpath(path)}")
        self.held: int = 0
        self.shared: bool = shared
        self.exclusive: bool = False  # the kind held now: a shared lock may have been upgraded
        self._passes_on = False  # a release wakes one waiter; one that shares the lock wakes the next
        self._path = path
        self._reopen = reopen
        self.fd: int = -1

    @abstractmethod
    def _lock(self) -> None:
        """Lock the open file. BlockingIOError while another holder excludes it."""

    @abstractmethod
    def _unlock(self) -> None:
        """Unlock the open file."""

    def _may_succeed(self) -> bool:
        return not self.held or (self.shared and not self.exclusive)

    def take(self) -> None:
        """Add a holder, if the lock allows it. The locked file is the one that has the name now."""
        self.check()
        if self.held and (self.exclusive or not self.shared):
            raise BlockingIOError
        try:
            while not self.held and not self._lock_if_named():
                stale, self.fd = self.fd, self._reopen()
                process_locks.close_file(stale)
        except BlockingIOError:
            self._passes_on = self.shared
            raise
        if not self.held:
            self.exclusive = not self.shared
        self.held += 1
        if self._passes_on:
            self._passes_on = False
            if not self.polling.pass_on():
                self.polling.notify(1)

    def _lock_if_named(self) -> bool:
        """Lock the open file. False, and not locked, if it no longer has the name."""
        self._lock()
        named = False
        try:
            named = same_file(self._path, os.fstat(self.fd))
        finally:
            if not named:
                self._unlock()
        return named

    def give_back(self) -> None:
        """Remove a holder. After an OSError this object does not hold the lock; the kernel may hold it until the file is closed."""
        if not self.held:
            raise RuntimeError(f"{self.name}: released, but this object does not hold it")
        self.held -= 1
        if not self.held:
            self.exclusive = False
            self.releasing()
            self._unlock()
        self.released(1)  # in turn: if all were woken, some would always be faster

    def _let_go(self) -> None:
        held, self.held, self.exclusive = self.held, 0, False
        try:
            if held:
                self._unlock()
            self._closing()
        except OSError as error:
            raise translate(error, self.name) from None
        finally:
            fd, self.fd = self.fd, -1
            process_locks.close_file(fd)

    def _closing(self) -> None:
        """Do what must be done while the file is still open."""

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0 and not self.forked:
            warnings.warn(f"{self.name}: never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()


class HeldFileLock(Lock):
    """A lock on a file. Each object is a lock of its own, and excludes other objects in the same process."""

    _handle: HeldFile

    async def acquire(self) -> None:
        await self._handle.obtain(self._handle.take)

    def acquire_nowait(self) -> None:
        self._handle.obtain_nowait(self._handle.take)

    def release(self) -> None:
        self._handle.call(self._handle.give_back)

    async def aclose(self) -> None:
        self._handle.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        handle = self._handle
        yield handle.name
        yield state(handle)
        yield "" if handle.closed else "not held by this object" if not handle.held else "held"
        yield counted(handle.held, "holder") if handle.held > 1 else ""
        yield "shared" if (handle.held and not handle.exclusive) or (handle.shared and not handle.held) else ""
        yield parked(handle.polling, "for it")


def lock_path(address: Address) -> str:
    """The absolute path of the address."""
    if not address.path or address.authority:
        raise address.no_path(f"{address.scheme}:/run/app.lock")
    return os.path.abspath(address.path)


def open_lock_file(address: Address, path: str, accesses: tuple[int, ...], create: bool, exclusive: bool, mode: int) -> int:
    """Open the file with the first of `accesses` that is permitted. With `create`, a missing file is created with exactly `mode`.

    WrongObject if it is a symbolic link or not a plain file.
    """
    try:
        return create_or_open(
            (lambda: _create(path, accesses[0], mode)) if create else None,
            lambda: _opened(address, path, accesses),
            exclusive=exclusive,
        )[0]
    except FileExistsError:
        raise os_error(errno.EEXIST, address.url, "the file exists, and exclusive was asked for") from None


def _create(path: str, access: int, mode: int) -> int:
    """Create the file with exactly `mode`. FileExistsError if there is one."""
    fd = os.open(path, access | _FLAGS | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(fd, mode)
    except BaseException:
        remove_same_file(path, os.fstat(fd))
        os.close(fd)
        raise
    return fd


def _opened(address: Address, path: str, accesses: tuple[int, ...]) -> int:
    fd = _first(address, path, accesses)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise WrongObject(errno.EINVAL, f"{address.url}: not a plain file")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _first(address: Address, path: str, accesses: tuple[int, ...]) -> int:
    for access in accesses:
        try:
            return os.open(path, access | _FLAGS)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise WrongObject(errno.ELOOP, f"{address.url}: a symbolic link; a lock file must be a file") from None
            if error.errno == errno.EISDIR:
                raise WrongObject(errno.EISDIR, f"{address.url}: a directory; a lock file must be a file") from None
            if error.errno not in _NOT_SO:
                raise
    needs = "a shared lock needs permission to read the file"
    if os.O_WRONLY in accesses:
        needs = "an exclusive lock needs permission to write the file (a shared one to read it)"
    raise os_error(errno.EACCES, address.url, needs)
