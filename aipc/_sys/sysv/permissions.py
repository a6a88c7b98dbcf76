"""What the three kinds of System V objects have in common: owner and mode, and how to change them (svipc(7), IPC_SET).

The layout is that of 64-bit Linux (asm-generic/ipcbuf.h). It comes first in each kind's own structure, of which IPC_SET takes
nothing else from segments and semaphore sets.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from aipc.exceptions import UnsupportedOperation

from ..libc import check

SET, STAT = 1, 2
_BITS = 8 * ctypes.sizeof(ctypes.c_void_p)


class Permissions(ctypes.Structure):
    """ipc_perm."""

    _fields_ = (
        ("key", ctypes.c_int),
        *((name, ctypes.c_uint) for name in ("uid", "gid", "cuid", "cgid", "mode")),
        ("seq", ctypes.c_ushort),
        ("reserved", ctypes.c_ulong * 2),
    )

    def change(self, *, mode: int | None, uid: int | None, gid: int | None) -> None:
        """Put in what is not None."""
        for field, value in (("mode", mode), ("uid", uid), ("gid", gid)):
            if value is not None:
                setattr(self, field, value)


class _Status(ctypes.Structure):
    """Any kind's, and room for what the kernel writes behind the permissions."""

    _fields_ = (("perm", Permissions), ("rest", ctypes.c_ulong * 16))


def must_be_known(name: str) -> None:
    """UnsupportedOperation on 32-bit Pythons, whose layout is another one."""
    if _BITS != 64:
        raise UnsupportedOperation(f"{name}: its status takes a 64-bit Python; this one has {_BITS} bits")


def checked_change(name: str, **given: int | None) -> None:
    """ValueError for what can't be an owner, a mode or a size."""
    for field, value in given.items():
        if value is not None and value < 0:
            raise ValueError(f"{name}: {field}={value}: must be 0 or more")
        if field == "mode" and value is not None and value > 0o777:
            raise ValueError(f"{name}: mode={value:#o}: must be a file mode, such as 0o600")


def change(control: Callable[[int, Any], int], name: str, *, mode: int | None, uid: int | None, gid: int | None) -> None:
    """IPC_SET of what is not None. `control` is shmctl(2) or semctl(2) for one object: command and structure."""
    must_be_known(name)
    status = _Status()
    check(control(STAT, ctypes.byref(status)))
    status.perm.change(mode=mode, uid=uid, gid=gid)
    check(control(SET, ctypes.byref(status)))
