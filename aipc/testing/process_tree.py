"""Leaks of a process and all its children, on a machine where other programs make objects meanwhile."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from aipc._objects import IpcObject, list_objects
from aipc._sys.proc.file_users import Users, command_of, users_of
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv import tables as sysv_tables

from .leaks import OWN, Leaked, descriptors, is_waiter_table

_LASTING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes that Python starts once, and keeps."""
_PATIENCE = 0.25
"""Seconds for what is ending to end."""


@contextmanager
def nothing_left_by_tree() -> Iterator[None]:
    """Raise Leaked if the block leaves descriptors, child processes, System V or POSIX objects of this process or its children.

    An object that only other living processes have used is theirs. The kernel does not tell who made one that nobody has used or
    open: that counts as left here.
    """
    gc.collect()
    before = _everything()
    yield
    deadline = monotonic() + _PATIENCE
    while left := {name: one for name, one in _everything().items() if name not in before and not _is_others(one)}:
        if monotonic() >= deadline:
            raise Leaked("left behind: " + ", ".join(sorted(left)))
        gc.collect()
        sleep(0.02)


def _everything() -> dict[str, IpcObject | None]:
    """Each descriptor, process and object, by a text; the object itself, to find out whose it is."""
    found: dict[str, IpcObject | None] = dict.fromkeys(descriptors())
    found |= {
        f"process {pid}: {command_of(pid) or 'ended, but not reaped'}": None for pid in sorted(_tree()) if not _lasts(pid)
    }
    for one in list_objects():
        if one.kind not in ("unix", "fifo") and not _is_own(one):
            found[f"{one.kind} {one.name}{f' (number {one.id})' if one.id is not None else ''}"] = one
    return found


def _is_own(one: IpcObject) -> bool:
    """Whether it is a part of the doorbell, or the path of a primitive."""
    if one.kind == "sysv-shm" and one.id is not None:
        row = sysv_tables.row("sysv-shm", one.id)
        return row is None or is_waiter_table("sysv-shm", row)
    return one.kind.startswith("posix-") and one.name.removeprefix("/").startswith(OWN)


def _lasts(pid: int) -> bool:
    return pid == os.getpid() or any(name in command_of(pid) for name in _LASTING)


def _tree() -> set[int]:
    """This process and all below it, the ended ones that were not reaped included (proc_pid_stat(5))."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    tree = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= below
    return tree


def _is_others(one: IpcObject | None) -> bool:
    """Whether only other processes, which still live, have used it."""
    if one is None:
        return False
    pids = {*one.pids, *_users(one, users_of()), *_last(one)}
    return not pids & _tree() and any(os.path.exists(f"/proc/{pid}") for pid in pids if pid > 0)


def _users(one: IpcObject, users: Users) -> list[int]:
    if one.kind == "sysv-shm":
        return users.segments.get(one.id or 0, [])
    path = {"posix-shm": "/dev/shm/", "posix-sem": "/dev/shm/sem.", "posix-mq": "/dev/mqueue/"}.get(one.kind)  # noqa: S108
    with suppress(OSError):
        if path:
            status = os.stat(path + one.name.removeprefix("/"))
            return users.files.get((status.st_dev, status.st_ino), [])
    return []


def _last(one: IpcObject) -> list[int]:
    """The process that changed a semaphore last."""
    with suppress(OSError):
        if one.kind == "sysv-sem" and one.key:
            return [sysv.SemaphoreSet(one.key, 0, 0).last_pid(0)]
    return []
