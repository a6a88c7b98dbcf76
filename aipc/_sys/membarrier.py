"""Ordering what this processor and another one see of shared memory (membarrier(2)).

Who goes to sleep on a flag in shared memory stores the flag, and then looks once more for what it waits for; who provides that
stores it, and then looks at the flag. Each side's store may still be on its way when it loads: both would sleep. A barrier
`global_barrier`, on the sleeping side, makes up for both, so that the side that provides pays nothing.
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
"""The system call's number, by the kernel's machine and this program's bytes a pointer: a 32-bit one has other numbers."""
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 1 << 1, 1 << 2
_IN_ORDER = frozenset({"x86_64", "AMD64", "i386", "i686", "s390x"})  # stores are seen in program order, loads are made in it

_syscall = libc.syscall
_number = _NUMBERS.get((platform.machine(), ctypes.sizeof(ctypes.c_void_p)), -1)


@cache
def registered() -> bool:
    """Whether this process has asked to take part: `global_barrier` of other processes then reaches it, and its own works."""
    if _number < 0 or not probes.enabled("membarrier"):
        return False
    return not _call(_REGISTER_GLOBAL_EXPEDITED)


os.register_at_fork(after_in_child=registered.cache_clear)


class Barriers:
    """What one end of a channel needs. `fence`: None where stores are seen, and loads made, in program order anyway.

    `global_barrier`: a full barrier on every processor that runs a registered process, and here; False if the kernel refused it,
    as a filter of seccomp(2) may from any moment on. None if there is none.
    """

    __slots__ = ("fence", "global_barrier")

    def __init__(self) -> None:
        self.fence: Callable[[], None] | None = None if _in_order() else _Fence()
        self.global_barrier: Callable[[], bool] | None = _global_barrier if registered() else None


class _Fence:
    """Orders all but a store and a later load. A lock that is let go and taken again does that on every processor."""

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
    """Let others see this thread's stores before its next load is made.

    Where the kernel can, it does the same for all registered processes, so that one which stores before it loads needs no
    barrier of its own. Else it is an atomic instruction of this processor, and the others need one, too.
    """
    if not registered() or _call(_GLOBAL_EXPEDITED):
        Lock().acquire()
