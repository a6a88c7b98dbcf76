"""Files as memory (mmap(2)): shared with all processes that map or read them, or private copies; and anonymous memory."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable
from typing import Any, Self

import anyio.lowlevel
import anyio.to_thread

from aipc._io.errors import os_error
from aipc._sys import new_file
from aipc._sys.files import sync_file_range
from aipc.abc import Lock
from aipc.exceptions import AddressError, UnsupportedOperation, WrongObject

from .base import MAKE, FileSegment, MappedSegment, OpenFile, checked_mode, checked_size, explained, mapped, remove_file
from .creation import NotReady, Prepare, filling, open_or_create

Path = str | os.PathLike[str]


class MappedFile(FileSegment):
    """A file, or a part of it, as memory. Every reader of the file sees at once what is written to the memory.

    The kernel writes it to the disk when it likes, or at `flush`. A process that may write to the file can also make it shorter:
    touching the missing part is SIGBUS. So is a disk error.
    """

    __slots__ = ("_identity", "_offset", "_path", "private")

    def __init__(
        self,
        path: str,
        file: OpenFile,
        size: int,
        *,
        read_only: bool,
        offset: int = 0,
        private: bool = False,
        unlink: bool = False,
        lock: Lock | str | None = None,
    ) -> None:
        self._identity: os.stat_result = os.fstat(file.fd)
        self._path = os.path.abspath(path)  # this process may change its directory
        self._offset = offset
        self.private: bool = private
        super().__init__(path, file, size, read_only=read_only, unlink=unlink, lock=lock)

    @classmethod
    def create(
        cls,
        path: Path,
        size: int,
        *,
        mode: int = 0o600,
        unlink: bool = False,
        reserve: bool = True,
        lock: Lock | str | None = None,
    ) -> Self:
        """Create a file of `size` zero bytes and map it. ObjectExists if the path exists; NoSpace if the file does not fit.

        The file has exactly `mode`, whatever the umask. `unlink` removes the file on close, in this process only. `reserve`
        reserves the space now; without it, a full disk is SIGBUS at the first touch. `lock` is for `locked`.
        """
        return cls._created(path, size, mode=mode, unlink=unlink, reserve=reserve, lock=lock)

    @classmethod
    def open_or_create(
        cls,
        path: Path,
        size: int,
        *,
        mode: int = 0o600,
        reserve: bool = True,
        prepare: Prepare | None = None,
        lock: Lock | str | None = None,
    ) -> Self:
        """Map the file, or make it, as `open` and `create` do: any number of processes may at once.

        `prepare(view)` writes the first bytes of a new one, before anybody else can open it: it runs in one process only. If it
        raises, there is no file. WrongObject if there is a shorter one. An empty one is waited for, up to 0.1 s, because
        another program may be about to fill it, and the loop waits as well; `aipc.wait_ready` waits longer.
        """
        checked_size(_checked_path(path), size)
        fill = filling(size, prepare)
        return open_or_create(
            size,
            lambda: cls.open(path, lock=lock),
            lambda: cls._created(path, size, mode=mode, unlink=False, reserve=reserve, lock=lock, prepare=fill),
        )

    @classmethod
    def _created(
        cls,
        path: Path,
        size: int,
        *,
        mode: int,
        unlink: bool,
        reserve: bool,
        lock: Lock | str | None,
        prepare: Callable[[int], None] = lambda _: None,
    ) -> Self:
        where = _checked_path(path)
        checked_size(where, size)
        checked_mode(where, mode)

        with explained(where):
            fd = new_file.create(where, size, mode, reserve=reserve, prepare=prepare)
            try:
                return cls(where, OpenFile(fd), size, read_only=False, unlink=unlink, lock=lock)
            except BaseException:
                os.unlink(where)
                raise

    @classmethod
    def open(
        cls,
        path: Path,
        read_only: bool = False,
        *,
        offset: int = 0,
        size: int | None = None,
        private: bool = False,
        lock: Lock | str | None = None,
    ) -> Self:
        """Map `size` bytes from `offset` on, by default to the end. ObjectMissing, AccessDenied; WrongObject if the file is too short.

        `offset` must be a multiple of the page size. `private`: what is written stays in this process (copy-on-write), and
        permission to read is enough. A device, such as /dev/zero, needs a `size`.
        """
        where = _checked_path(path)
        if offset < 0 or offset % mmap.ALLOCATIONGRANULARITY:
            raise AddressError(f"{where}: offset={offset}: must be a multiple of {mmap.ALLOCATIONGRANULARITY:,}, a page's size")
        if size is not None:
            checked_size(where, size)
        flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (os.O_RDONLY if read_only or private else os.O_RDWR)

        with explained(where, MAKE):
            file = OpenFile(os.open(where, flags))
            length = _length(where, os.fstat(file.fd), offset, size)
            return cls(where, file, length, read_only=read_only, offset=offset, private=private, lock=lock)

    @staticmethod
    def anonymous(size: int, *, lock: Lock | str | None = None) -> AnonymousMemory:
        """Make `size` zero bytes without a name or a file, shared with the children that this process forks from now on."""
        return AnonymousMemory(size, lock=lock)

    def _map(self, file: OpenFile, size: int, read_only: bool) -> Any:
        return mapped(file.fd, size, read_only=read_only, private=self.private, offset=self._offset)

    def resize(self, size: int) -> None:
        """Make the file end `size` bytes after the offset. UnsupportedOperation for a private or read-only mapping."""
        self._opened()
        if self.private or not stat.S_ISREG(self._identity.st_mode):
            raise UnsupportedOperation(f"{self._name}: a private mapping, or not a plain file: it can't be resized")
        super().resize(size)

    def _stretch(self, fd: int, size: int) -> None:
        super()._stretch(fd, self._offset + size)

    async def flush(self, wait: bool = True) -> None:
        """Write changes to the disk (fdatasync(2), the same as msync(2) of the whole file); without `wait`, only start writing.

        It runs in a thread. A cancelled flush continues there and does no harm, nor does closing meanwhile. `OSError` (EIO,
        NoSpace) if the disk cannot take the data. UnsupportedOperation for a private mapping, which is never written.
        """
        self._opened()
        if self.private:
            raise UnsupportedOperation(f"{self._name}: private: what is written here never reaches the file")
        if self.read_only or not stat.S_ISREG(self._identity.st_mode):
            await anyio.lowlevel.checkpoint()
            return
        assert self._file is not None
        try:
            await anyio.to_thread.run_sync(_flush, [self._file], wait)
        except OSError as error:
            raise os_error(error.errno or 0, self._name) from None

    def _remove(self, *, missing_ok: bool) -> None:
        remove_file(self._path, self._identity, self._name, missing_ok=missing_ok)


class AnonymousMemory(MappedSegment):
    """Memory without a name (MAP_SHARED | MAP_ANONYMOUS): shared by this process and the children that it forks."""

    __slots__ = ("_size",)

    def __init__(self, size: int, *, lock: Lock | str | None = None) -> None:
        name = "anonymous memory"
        self._size = checked_size(name, size)
        with explained(name):
            super().__init__(name, mmap.mmap(-1, size), read_only=False, lock=lock)

    @property
    def size(self) -> int:
        return self._size

    def _remove(self, *, missing_ok: bool) -> None:
        """Do nothing: there is no name, and the memory is freed with its last user."""


def _flush(box: list[OpenFile], wait: bool) -> None:
    file = box.pop()  # an idle thread may keep its last arguments, and so the descriptor
    if wait:
        os.fdatasync(file.fd)
    else:
        sync_file_range(file.fd)


def _checked_path(path: Path) -> str:
    where = os.fspath(path)
    if not isinstance(where, str):
        raise TypeError(f"path={path!r}: must be a str or a pathlib.Path")
    if not where or "\0" in where:
        raise AddressError(f"{where!r}: must be a file's path")
    return where


def _length(where: str, file: os.stat_result, offset: int, size: int | None) -> int:
    """The number of bytes to map."""
    if not stat.S_ISREG(file.st_mode):
        if stat.S_ISCHR(file.st_mode) or stat.S_ISBLK(file.st_mode):
            if size is None:
                raise AddressError(f"{where}: a device: needs the size to map, size=...")
            return size
        raise WrongObject(errno.EINVAL, f"{where}: neither a plain file nor a device: it can't be mapped")
    there = file.st_size - offset
    if there < (size or 1):
        wanted = f"{size:,} bytes" if size else "any"
        kind = WrongObject if file.st_size else NotReady
        raise kind(
            errno.EINVAL, f"{where}: the file has {file.st_size:,} bytes: from offset {offset:,} on it has not {wanted} to map"
        )
    return size or there
