"""System V shared memory (shmget(2), shmop(2), shmctl(2)) through ctypes: sysv_ipc lacks SHM_LOCK, and detaches under views."""

from __future__ import annotations

import ctypes
import weakref
from functools import partial
from pathlib import Path
from typing import Any

from ..libc import check, last_error, libc
from . import permissions

libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = (ctypes.c_void_p,)
libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)

PRIVATE, CREATE, EXCLUSIVE = 0, 0o1000, 0o2000
_READ_ONLY = 0o10000
_REMOVE, _LOCK, _UNLOCK = 0, 11, 12
_FAILED = ctypes.c_void_p(-1).value


def largest() -> int:
    """The kernel's limit for a segment, in bytes (kernel.shmmax)."""
    return int(Path("/proc/sys/kernel/shmmax").read_text())


def get(key: int | None, size: int, flags: int) -> int:
    """shmget(2): return the segment's number."""
    return check(libc.shmget(PRIVATE if key is None else key, size, flags))


def attach(identifier: int, size: int, *, read_only: bool) -> Any:
    """shmat(2): return the memory as an array; it is detached when its last view is gone."""
    address = libc.shmat(identifier, None, _READ_ONLY if read_only else 0)
    if address == _FAILED:
        raise last_error()
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, libc.shmdt, address).atexit = False
    return memory


def remove(identifier: int) -> None:
    """IPC_RMID: the key is free at once; the memory is freed when the last process detaches."""
    check(libc.shmctl(identifier, _REMOVE, None))


def change(identifier: int, *, mode: int | None, uid: int | None, gid: int | None) -> None:
    """IPC_SET of what is not None."""
    permissions.change(partial(libc.shmctl, identifier), f"System V segment {identifier}", mode=mode, uid=uid, gid=gid)


def lock(identifier: int) -> None:
    """SHM_LOCK: keep it out of swap space."""
    check(libc.shmctl(identifier, _LOCK, None))


def unlock(identifier: int) -> None:
    """SHM_UNLOCK."""
    check(libc.shmctl(identifier, _UNLOCK, None))
