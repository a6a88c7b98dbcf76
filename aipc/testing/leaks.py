"""What a process or a test left behind: descriptors, and System V and POSIX objects."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Leaked(AssertionError):
    """Something is there that was not there before."""


_SYSTEM_V = {"msg": "message queue", "sem": "semaphore set", "shm": "shared memory"}
_POSIX = {"/dev/shm": "POSIX shared memory or semaphore", "/dev/mqueue": "POSIX message queue"}  # noqa: S108 - the place where the kernel shows them


def kernel_objects() -> frozenset[str]:
    """Every System V and POSIX object of this namespace, by kind and identifier (proc(5), shm_overview(7))."""
    found = set()
    for kind, name in _SYSTEM_V.items():
        lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        found |= {f"{name} {line.split()[1]} (key {int(line.split()[0]) & 0xFFFFFFFF:#x})" for line in lines}
    for directory, name in _POSIX.items():
        if os.path.isdir(directory):
            found |= {f"{name} {entry}" for entry in os.listdir(directory)}
    return frozenset(found)


def descriptors() -> frozenset[str]:
    """This process's open descriptors, with what they stand for."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"descriptor {number}: {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue  # the one that lists the directory
    return frozenset(found)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Leaked, if after the block there are kernel objects or descriptors that were not there before."""
    gc.collect()
    before = kernel_objects() | descriptors()
    yield
    gc.collect()
    left = (kernel_objects() | descriptors()) - before
    if left:
        raise Leaked("left behind: " + ", ".join(sorted(left)))
