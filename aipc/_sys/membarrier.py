"""Ordering the stores and loads of two processors on shared memory (membarrier(2)).

A waiter stores a flag in shared memory, and then checks once more what it waits for. A provider stores the object, and then checks
the flag. Each side's store may still be delayed when it loads: then both would sleep. A `global_barrier` on the waiting side orders
both sides, so the providing side needs no barrier.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from functools import cache
from threading import Lock

from . import probes
from .libc import libc

_NUMBERS = {
    ("x86_64", 8): 324, ("x86_64", 4): 375, ("i686", 4): 375, ("aarch64", 8): 283, ("aarch64", 4): 389, ("armv7l", 4): 389,
    ("riscv64", 8): 283, ("ppc64le", 8): 365, ("s390x", 8): 356,
}  # fmt: skip
"""The system call's number, by the kernel's machine and this program's pointer size: a 32-bit program has other numbers."""
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 1 << 1, 1 << 2
_IN_ORDER = frozenset({"x86_64", "AMD64", "i386", "i686", "s390x"})  # stores and loads keep program order

_syscall = libc.syscall
_number = _NUMBERS.get((platform.machine(), ctypes.sizeof(ctypes.c_void_p)), -1)


@cache
def registered() -> bool:
    """Whether this process is registered: other processes' `global_barrier` then reaches it, and its own works."""
    if _number < 0 or not probes.enabled("membarrier"):
        return False
    return not _call(_REGISTER_GLOBAL_EXPEDITED)


os.register_at_fork(after_in_child=registered.cache_clear)


class Barriers:
    """The barriers that one end of a channel needs. `fence`: None where stores and loads keep program order anyway.

    `global_barrier`: a full barrier on every processor that runs a registered process, and here; it returns False if the kernel
    refused it, which a filter of seccomp(2) may do at any time. None if the kernel has none.
    """

    __slots__ = ("fence", "global_barrier")

    def __init__(self) -> None:
        self.fence: Callable[[], None] | None = None if _in_order() else _Fence()
        self.global_barrier: Callable[[], bool] | None = _global_barrier if registered() else None


class _Fence:
    """Orders everything but a store and a later load: releasing and taking a lock does that on every processor."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def __call__(self) -> None:
        self._lock.release()
        self._lock.acquire()


def _in_order() -> bool:
    return platform.machine() in _IN_ORDER and probes.enabled("order")


def _global_barrier() -> bool:
    return not _call(_GLOBAL_EXPEDITED)


def _call(command: int) -> int:
    return int(_syscall(_number, command, 0, 0))


def full() -> None:
    """Make this thread's stores visible to other processors before its next load.

    Where the kernel can, it does the same for all registered processes, so their stores before a load need no barrier. Otherwise it
    is an atomic instruction of this processor, and the others need one, too.
    """
    if not registered() or _call(_GLOBAL_EXPEDITED):
        Lock().acquire()
