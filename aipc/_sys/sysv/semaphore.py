"""System V semaphore sets (semop(2), semctl(2)) through ctypes: sysv_ipc supports one semaphore a set and one operation a call."""

from __future__ import annotations

import ctypes
import errno
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import sysv_ipc

from ..libc import check, libc
from . import permissions, tables

libc.semget.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
libc.semop.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)

CREATE, EXCLUSIVE = sysv_ipc.IPC_CREAT, sysv_ipc.IPC_EXCL
NOWAIT, UNDO = 0o4000, 0x1000
LARGEST_VALUE = sysv_ipc.SEMAPHORE_VALUE_MAX
_REMOVE, _GETPID, _GETVAL, _GETALL, _GETNCNT, _GETZCNT, _SETVAL, _SETALL = 0, 11, 12, 13, 14, 15, 16, 17
_MOST = 1 << 16  # the numbers of an unsigned short


def most_operations() -> int:
    """The most operations that the kernel does in one call (SEMOPM, the third number of kernel.sem)."""
    try:
        return int(Path("/proc/sys/kernel/sem").read_text().split()[2])
    except OSError:
        return 500


class _Sembuf(ctypes.Structure):
    _fields_ = (("index", ctypes.c_ushort), ("delta", ctypes.c_short), ("flags", ctypes.c_short))


class Semun(ctypes.Union):
    """semctl(2)'s last argument. The kernel takes it as one word; on a big-endian machine `val` is the upper half of it."""

    _fields_ = (("val", ctypes.c_int), ("word", ctypes.c_ulong))


class SysVSemaphoreSetStatus(NamedTuple):
    """What the kernel tells about a set at one moment (semctl(2)). Times are whole seconds since 1970; 0: never."""

    #: how many semaphores it has
    nsems: int
    #: when somebody last operated on it (semop(2))
    otime: int
    #: when it was created, changed, or given values (SETVAL, SETALL)
    ctime: int
    #: its permission bits
    mode: int
    #: its owner
    uid: int
    #: its owner's group
    gid: int
    #: 32 bits; 0: private
    key: int
    #: the kernel's number, as in `ipcs -s`
    id: int


Operations = ctypes.Array[_Sembuf]


def operations(steps: Iterable[tuple[int, int]], flags: int) -> Operations:
    """Convert steps `(index, delta)` for semop(2); build operations once if they are used often."""
    return mixed((index, delta, flags) for index, delta in steps)


def mixed(steps: Iterable[tuple[int, int, int]]) -> Operations:
    """Convert steps `(index, delta, flags)`, each with its own flags."""
    buffers = [_Sembuf(*step) for step in steps]
    return (_Sembuf * len(buffers))(*buffers)


def _check_used(result: int) -> int:
    if result < 0 and ctypes.get_errno() == errno.EINVAL:
        raise OSError(errno.EIDRM, os.strerror(errno.EIDRM))  # the set was removed before this call
    return check(result)


def value_of(identifier: int, index: int) -> int:
    """GETVAL of a semaphore in the set of that number."""
    return _check_used(libc.semctl(identifier, index, _GETVAL))


class SemaphoreSet:
    """One set. Every error is an OSError with the errno of the system call; BlockingIOError where it would wait."""

    __slots__ = ("_key", "id")

    def __init__(self, key: int | None, count: int, flags: int) -> None:
        self._key = key
        self.id: int = check(libc.semget(sysv_ipc.IPC_PRIVATE if key is None else key, count, flags))

    @property
    def key(self) -> int:
        """Its key, 32 bits; 0 for a private set."""
        return (self._key or 0) & 0xFFFFFFFF

    def operate(self, steps: Operations) -> None:
        """semop(2): all steps or none."""
        _check_used(libc.semop(self.id, steps, len(steps)))

    def value(self, index: int) -> int:
        """GETVAL."""
        return _check_used(libc.semctl(self.id, index, _GETVAL))

    def has(self, index: int) -> bool:
        """Whether the set has a semaphore of that number."""
        try:
            self.value(index)
        except OSError as error:
            if error.errno == errno.EIDRM:
                return False
            raise
        return True

    def count(self) -> int:
        """The number of semaphores, found by 16 calls: semid_ds has another layout on each processor."""
        return bisect_left(range(_MOST), True, key=lambda index: not self.has(index))

    def values(self, count: int) -> list[int]:
        """GETALL for a set of `count` semaphores."""
        values = (ctypes.c_ushort * count)()
        _check_used(libc.semctl(self.id, 0, _GETALL, values))
        return list(values)

    def set_values(self, values: Sequence[int]) -> None:
        """SETALL: one value for each semaphore. ERANGE over LARGEST_VALUE."""
        _check_used(libc.semctl(self.id, 0, _SETALL, (ctypes.c_ushort * len(values))(*values)))

    def set_value(self, index: int, value: int) -> None:
        """SETVAL. ERANGE over LARGEST_VALUE."""
        _check_used(libc.semctl(self.id, index, _SETVAL, ctypes.c_ulong(Semun(val=value).word)))

    def waiting(self, index: int) -> tuple[int, int]:
        """GETNCNT and GETZCNT: the numbers of processes that sleep in semop(2) until the value is larger, and until it is zero."""
        return _check_used(libc.semctl(self.id, index, _GETNCNT)), _check_used(libc.semctl(self.id, index, _GETZCNT))

    def last_pid(self, index: int) -> int:
        """GETPID: the last process that operated on it."""
        return _check_used(libc.semctl(self.id, index, _GETPID))

    def initialised(self) -> bool:
        """Whether any process has operated on the set since its creation (sem_otime). EIDRM if it was removed or replaced."""
        if self._key is None:
            return True
        try:
            found = sysv_ipc.Semaphore(self._key)
            operated = bool(found.o_time)
        except sysv_ipc.ExistentialError:
            found, operated = None, False
        except sysv_ipc.Error:
            return True  # not readable: the next operation raises
        if found is None or found.id != self.id:
            raise OSError(errno.EIDRM, os.strerror(errno.EIDRM))
        return operated

    def stat(self) -> SysVSemaphoreSetStatus:
        """IPC_STAT, read from /proc, as semid_ds has a layout for each processor. EIDRM if the set is gone."""
        row = tables.row("sysv-sem", self.id)
        if row is None:
            raise OSError(errno.EIDRM, os.strerror(errno.EIDRM))
        return SysVSemaphoreSetStatus(
            row["nsems"], row["otime"], row["ctime"], row["perms"] & 0o777, row["uid"], row["gid"], row["key"], self.id
        )

    def change(self, *, mode: int | None, uid: int | None, gid: int | None) -> None:
        """IPC_SET of what is not None."""
        try:
            permissions.change(partial(libc.semctl, self.id, 0), f"System V set {self.id}", mode=mode, uid=uid, gid=gid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise OSError(errno.EIDRM, os.strerror(errno.EIDRM)) from None

    def remove(self) -> None:
        """IPC_RMID."""
        _check_used(libc.semctl(self.id, 0, _REMOVE))
