"""Ordering what this processor and another one see of shared memory (membarrier(2)).

Who goes to sleep on a flag in shared memory stores the flag, and then looks once more for what it waits for; who provides that
stores it, and then looks at the flag. Each side's store may still be on its way when it loads: both would sleep. `everywhere`
on the sleeping side makes up for both, so that the side that provides pays nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

from aipc._sys import probes

_NUMBERS = {"x86_64": 324, "aarch64": 283, "armv7l": 389, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED, _PRIVATE_EXPEDITED, _REGISTER_PRIVATE_EXPEDITED = 1 << 1, 1 << 2, 1 << 3, 1 << 4
_IN_ORDER = frozenset({"x86_64", "AMD64", "i386", "i686", "s390x"})  # stores are seen in program order, loads are made in it

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_number = _NUMBERS.get(platform.machine(), -1)


@cache
def registered() -> bool:
    """Whether this process has asked to take part: `everywhere` of other processes then reaches it, and its own works."""
    if _number < 0 or not probes.enabled("membarrier"):
        return False
    return not (_call(_REGISTER_GLOBAL_EXPEDITED) or _call(_REGISTER_PRIVATE_EXPEDITED))


os.register_at_fork(after_in_child=registered.cache_clear)


@cache
def in_order() -> bool:
    """Whether plain stores become visible in program order, and loads are made in it, so that `here` is not needed."""
    return platform.machine() in _IN_ORDER and probes.enabled("order")


def everywhere() -> None:
    """A full barrier on every processor that runs a registered process, and here."""
    _call(_GLOBAL_EXPEDITED)


def here() -> None:
    """A full barrier on this processor; any system call would do that takes a lock."""
    _call(_PRIVATE_EXPEDITED if registered() else 0)


def _call(command: int) -> int:
    return int(_syscall(_number, command, 0, 0))
