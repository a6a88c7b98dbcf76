"""The common base of segments: one view that close releases, views still in use, the segment's lock, names and sizes."""

from __future__ import annotations

import errno
import os
import stat
import sys
import warnings
import weakref
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel

from aipc._io import fork
from aipc._io.errors import os_error, translate
from aipc._opening.openers import open_lock
from aipc._sys import file_mapping
from aipc._sys.files import same_file
from aipc._texts.hints import hinted
from aipc._texts.shown import Fact, counted, shown, usable
from aipc.abc import Lock, Segment
from aipc.exceptions import AddressError, ObjectExists, ObjectMissing, SegmentInUse, UnsupportedOperation, WrongObject
from aipc.locks.process_locks import close_file


class OpenFile:
    """Owns a descriptor, which is closed with the last reference: a flush in a thread may outlive its segment.

    It may stay open longer, so that the close drops no classic lock of this process (`process_locks`).
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd: int = fd

    def give_up(self) -> None:
        """Leave the descriptor to the caller that gave it."""
        self.fd = -1

    def __del__(self) -> None:
        if self.fd >= 0:
            close_file(self.fd)


class MappedSegment(Segment):
    """Memory mapped into this process.

    It is unmapped when the object that maps it (`mmap`, or an array) is freed. Every view keeps that object alive: nothing can
    touch memory that is no longer mapped.
    """

    __slots__ = ("_buf", "_generation", "_lock", "_maps", "_name", "_unlink", "read_only")

    read_only: bool

    def __init__(self, name: str, maps: Any, *, read_only: bool, unlink: bool = False, lock: Lock | str | None = None) -> None:
        self._name = name
        self.read_only = read_only
        self._maps: Any = maps
        self._buf: memoryview | None = self._view(maps)
        self._unlink = unlink
        self._lock = lock
        self._generation = fork.generation

    def _view(self, maps: Any) -> memoryview:
        view = memoryview(maps).cast("B")
        return view.toreadonly() if self.read_only else view

    @property
    def buf(self) -> memoryview:
        return self._opened()

    def _opened(self) -> memoryview:
        if self._buf is None:
            raise anyio.ClosedResourceError(f"{self._name}: closed")
        return self._buf

    def _let_go(self) -> None:
        """Unmap the memory, or raise SegmentInUse."""
        maps = weakref.ref(self._maps)
        try:
            self._opened().release()
        except BufferError:
            raise self._in_use() from None
        self._buf = self._maps = None
        still = maps()
        if still is not None:
            self._maps, self._buf = still, self._view(still)
            raise self._in_use()

    def _in_use(self) -> SegmentInUse:
        return SegmentInUse(f"{self._name}: slices, casts or arrays of its memory are still held; release them first")

    def close(self) -> None:
        if self._buf is not None:
            self._let_go()
            self._end()

    def _end(self) -> None:
        self._give_back()
        if self._unlink and self._generation == fork.generation:
            self._remove(missing_ok=True)

    def _give_back(self) -> None:
        """Close what is open beside the memory."""

    def unlink(self) -> None:
        self._remove(missing_ok=False)

    @abstractmethod
    def _remove(self, *, missing_ok: bool) -> None:
        """Remove the name, if it is still this segment's; otherwise ObjectMissing, or nothing with `missing_ok`."""

    def resize(self, size: int) -> None:
        self._opened()
        raise UnsupportedOperation(f"{self._name}: the kernel can't resize this kind of memory; create another one")

    async def flush(self, wait: bool = True) -> None:
        self._opened()
        await anyio.lowlevel.checkpoint()

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[memoryview]:
        self._opened()
        if self._lock is None:
            raise RuntimeError(f"{self._name}: opened without a lock; give one: lock='flock:/run/app.lock', or an open Lock")
        if isinstance(self._lock, str):
            async with open_lock(self._lock) as lock, lock:
                yield self._opened()
        else:
            async with self._lock:
                yield self._opened()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except SegmentInUse:
            if error is None:
                raise
            # The error's own traceback may hold the views. They keep the memory mapped while they live.
            self._buf = self._maps = None
            self._end()

    def __del__(self) -> None:
        if getattr(self, "_buf", None) is not None and self._generation == fork.generation:
            warnings.warn(f"{self._name}: never closed", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield usable(self._buf is None, self._generation)
        yield lambda: counted(self.size, "byte")
        yield "read only" if self.read_only else ""


class FileSegment(MappedSegment):
    """A segment with a descriptor and a mapping of it."""

    __slots__ = ("_file", "_size")

    def __init__(
        self,
        name: str,
        file: OpenFile,
        size: int,
        *,
        read_only: bool,
        unlink: bool = False,
        lock: Lock | str | None = None,
    ) -> None:
        self._file: OpenFile | None = file
        self._size = size
        super().__init__(name, self._map(file, size, read_only), read_only=read_only, unlink=unlink, lock=lock)

    def _map(self, file: OpenFile, size: int, read_only: bool) -> Any:
        return mapped(file.fd, size, read_only=read_only)

    @property
    def size(self) -> int:
        return self._size

    @property
    def fd(self) -> int:
        """The descriptor, for fstat(2) and similar calls; the segment owns it. -1 once closed."""
        return -1 if self._file is None else self._file.fd

    def _give_back(self) -> None:
        self._file = None

    def resize(self, size: int) -> None:
        self._opened()
        checked_size(self._name, size)
        if self.read_only:
            raise UnsupportedOperation(f"{self._name}: opened read-only, so it can't be resized")
        self._let_go()
        assert self._file is not None
        try:
            with explained(self._name):
                self._stretch(self._file.fd, size)
            self._size = size
        finally:
            self._maps = self._map(self._file, self._size, self.read_only)
            self._buf = self._view(self._maps)

    def _stretch(self, fd: int, size: int) -> None:
        """Make the file long enough for `size` bytes of memory, and reserve the new part (posix_fallocate(3))."""
        now = os.fstat(fd).st_size
        if size > now:
            os.posix_fallocate(fd, now, size - now)
        else:
            os.ftruncate(fd, size)


def mapped(fd: int, size: int, *, read_only: bool, private: bool = False, offset: int = 0) -> Any:
    """mmap(2), with its errors as they are; WrongObject if the file has meanwhile become shorter than `offset + size`."""
    file = os.fstat(fd)
    if stat.S_ISREG(file.st_mode) and file.st_size < offset + size:
        raise WrongObject(errno.EINVAL, f"descriptor {fd}: shorter than the {size:,} bytes to map")
    return file_mapping.mapped(fd, size, read_only=read_only, private=private, offset=offset)


@contextmanager
def explained(name: str, missing: str = "") -> Iterator[None]:
    """An OSError of the block comes out as a user should see it; `missing` says what makes an object that is not there."""
    try:
        yield
    except OSError as error:
        told = translate(error, name)
        if isinstance(told, ObjectMissing):
            raise hinted(told, missing) from None
        raise (hinted(told, _THERE) if isinstance(told, ObjectExists) else told) from None


MAKE = "create() makes it, or open_or_create()"
_THERE = "open() opens it, or open_or_create(); `aipc remove` removes what a crash left"


def remove_file(path: str, identity: os.stat_result, name: str, *, missing_ok: bool) -> None:
    """Unlink `path` if it is still the file that `identity` describes; otherwise ObjectMissing, or nothing with `missing_ok`."""
    try:
        if same_file(path, identity):
            os.unlink(path)
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise translate(error, name) from None
    if not missing_ok:
        raise os_error(errno.ENOENT, name, "removed already, or another object has the name now: nothing was removed")


def checked_size(name: str, size: int) -> int:
    """Return `size` as an int. AddressError if no memory can have that size, NoSpace if it is over every machine's limit."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{name}: size={size!r}: must be a whole number of bytes")
    if size < 1:
        raise AddressError(f"{name}: size={size}: must be 1 byte or more")
    if size > sys.maxsize:
        raise os_error(errno.EFBIG, name, f"size={size:,}: must be at most {sys.maxsize:,}")
    return size


def checked_mode(name: str, mode: int) -> int:
    """Return `mode` if it is a file mode; otherwise AddressError."""
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise AddressError(
            f"{name}: mode={oct(mode) if isinstance(mode, int) else repr(mode)}: must be a file mode, such as 0o600"
        )
    return mode
