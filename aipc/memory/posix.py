"""POSIX shared memory (shm_overview(7)): by name, for any process that may open it.

On Linux shm_open(3) is open(2) in /dev/shm, a tmpfs. aipc opens files there itself, because a new segment then gets its name last,
once it has its size.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Self

from aipc._sys import new_file
from aipc.abc import Lock
from aipc.exceptions import AddressError, WrongObject

from .base import MAKE, FileSegment, OpenFile, checked_mode, checked_size, explained, remove_file
from .creation import NotReady, Prepare, filling, open_or_create

_DIRECTORY = "/dev/shm"  # noqa: S108 - where the kernel keeps them
_LONGEST = 255


class SharedMemory(FileSegment):
    """POSIX shared memory. Its name, such as `/table`, stays until a process unlinks it, at most until the next boot.

    Made by `create` and `open`. A process that may write to it can also make it shorter: touching the missing part is SIGBUS.
    Share it with processes that you trust, or use MemfdSegment. No process removes a segment without being asked.
    """

    __slots__ = ("_identity",)

    def __init__(
        self, name: str, file: OpenFile, *, read_only: bool, unlink: bool = False, lock: Lock | str | None = None
    ) -> None:
        self._identity: os.stat_result = os.fstat(file.fd)
        size = self._identity.st_size
        if size == 0:
            raise NotReady(errno.EINVAL, f"{name}: empty: its creator has yet to give it a size, or it is no segment")
        super().__init__(name, file, size, read_only=read_only, unlink=unlink, lock=lock)

    @classmethod
    def create(
        cls,
        name: str,
        size: int,
        *,
        mode: int = 0o600,
        unlink: bool = False,
        reserve: bool = True,
        lock: Lock | str | None = None,
    ) -> Self:
        """Make `size` zero bytes called `name`. ObjectExists if the name is taken; NoSpace if they do not fit.

        The segment has exactly `mode`, whatever the umask. `unlink` removes the name on close, in this process only. `reserve`
        reserves the memory now; without it, running out of memory later is SIGBUS. `lock` is for `locked`.
        """
        return cls._created(name, size, mode=mode, unlink=unlink, reserve=reserve, lock=lock)

    @classmethod
    def open_or_create(
        cls,
        name: str,
        size: int,
        *,
        mode: int = 0o600,
        reserve: bool = True,
        prepare: Prepare | None = None,
        lock: Lock | str | None = None,
    ) -> Self:
        """Open the segment called `name`, or make it, as `open` and `create` do: any number of processes may at once.

        `prepare(view)` writes the first bytes of a new one, before anybody else can open it: it runs in one process only. If it
        raises, there is no segment. WrongObject if there is a smaller one. One that has no size yet, as between shm_open(3) and
        ftruncate(2) of a C program, is waited for, up to 0.1 s, as the loop waits as well; `aipc.wait_ready` waits longer.
        """
        checked_size(name, size)
        fill = filling(size, prepare)
        return open_or_create(
            size,
            lambda: cls.open(name, lock=lock),
            lambda: cls._created(name, size, mode=mode, unlink=False, reserve=reserve, lock=lock, prepare=fill),
        )

    @classmethod
    def _created(
        cls,
        name: str,
        size: int,
        *,
        mode: int,
        unlink: bool,
        reserve: bool = True,
        lock: Lock | str | None = None,
        prepare: Callable[[int], None] = lambda _: None,
    ) -> Self:
        name = checked_name(name)
        checked_size(name, size)
        checked_mode(name, mode)

        with explained(name):
            fd = new_file.create(_DIRECTORY + name, size, mode, reserve=reserve, prepare=prepare)
            try:
                return cls(name, OpenFile(fd), read_only=False, unlink=unlink, lock=lock)
            except BaseException:
                os.unlink(_DIRECTORY + name)
                raise

    @classmethod
    def open(cls, name: str, read_only: bool = False, *, lock: Lock | str | None = None) -> Self:
        """Open the whole segment `name`. ObjectMissing if there is none, AccessDenied, WrongObject if it is empty."""
        name = checked_name(name)
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_RDONLY if read_only else os.O_RDWR)

        with explained(name, MAKE):
            file = OpenFile(os.open(_DIRECTORY + name, flags))
            if not stat.S_ISREG(os.fstat(file.fd).st_mode):
                raise WrongObject(errno.EINVAL, f"{name}: not shared memory, although it is in {_DIRECTORY}")
            return cls(name, file, read_only=read_only, lock=lock)

    @property
    def name(self) -> str:
        """The name, with its slash."""
        return self._name

    def _remove(self, *, missing_ok: bool) -> None:
        remove_file(_DIRECTORY + self._name, self._identity, self._name, missing_ok=missing_ok)


def checked_name(name: str) -> str:
    """Return `name` with one leading slash. AddressError if no segment can have that name."""
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: must be a str, such as '/table'")
    bare = name.removeprefix("/")
    if bare in {"", ".", ".."} or "/" in bare or "\0" in bare or len(os.fsencode(bare)) > _LONGEST:
        raise AddressError(f"{name!r}: a segment's name is like '/table': up to {_LONGEST} bytes, without another slash")
    if bare.startswith("sem."):
        raise AddressError(f"{name!r}: names that begin with sem. belong to POSIX semaphores (sem_overview(7))")
    return "/" + bare
