"""Leaks of a process or a test: descriptors, and System V and POSIX objects."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from aipc._sys.doorbell.watching import Watch
from aipc._sys.posix.queue_names import queue_names
from aipc._sys.sysv import primitives
from aipc._sys.sysv import tables as sysv_tables


class Leaked(AssertionError):
    """There is an object that was not there before."""


_SYSTEM_V = {"sysv-mq": "message queue", "sysv-sem": "semaphore set", "sysv-shm": "shared memory"}
OWN = ("aipc-bells-", primitives.PREFIX)
"""Doorbell objects of killed processes, which their user's next process removes; paths of primitives that another program removed."""
_SHM = "/dev/shm"  # noqa: S108 - the place where the C library keeps them


def kernel_objects() -> frozenset[str]:
    """Return every System V and POSIX object of this namespace, by kind and identifier (proc(5), shm_overview(7)).

    POSIX queues only if /dev/mqueue is mounted, or for root.
    """
    found = set()
    for kind, name in _SYSTEM_V.items():
        found |= {
            f"{name} {row['id']} (key {row['key']:#x})" for row in sysv_tables.rows(kind) if not is_waiter_table(kind, row)
        }
    if os.path.isdir(_SHM):
        found |= {f"POSIX shared memory or semaphore {entry}" for entry in os.listdir(_SHM) if not entry.startswith(OWN)}
    found |= {f"POSIX message queue {entry}" for entry in queue_names() or ()}
    return frozenset(found)


def is_waiter_table(kind: str, row: dict[str, int]) -> bool:
    """Whether a row of `sysv_tables` is of the doorbell, which removes it with the last process, or with the next one."""
    if kind != "sysv-shm":
        return False
    with closing(Watch()) as watch:
        return watch.is_table(row)


def descriptors() -> frozenset[str]:
    """Return this process's open descriptors, with the names of their files."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"descriptor {number}: {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue  # the descriptor that lists the directory
    return frozenset(found)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Raise Leaked if, after the block, there are kernel objects or descriptors that were not there before."""
    gc.collect()
    before = kernel_objects() | descriptors()
    yield
    gc.collect()
    left = (kernel_objects() | descriptors()) - before
    if left:
        raise Leaked("left behind: " + ", ".join(sorted(left)))
