"""Locks and semaphores: who holds them, and who waits."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

from aipc._address import Address
from aipc._sys.holder_record import HolderRecord
from aipc._sys.proc import file_locks
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import key_of, object_name
from aipc.exceptions import WrongObject
from aipc.locks import process_locks

from .inspection import Inspection, found
from .machine import Machine, alive

_SEMAPHORE = struct.Struct("=II")
"""glibc's sem_t on 64 bits, with the low half first: the value, and the number of processes in sem_wait(3)."""


def flock(address: Address, machine: Machine) -> Inspection:
    """A whole file's lock."""
    with _file(address) as fd:
        held, asleep = file_locks.holders(fd, b"FLOCK"), file_locks.sleepers(fd, b"FLOCK")
    return _on_file(address, machine, held, asleep, {})


def fcntl(address: Address, machine: Machine) -> Inspection:
    """Locks on ranges of a file's bytes, whatever the range in the URL."""
    with _file(address) as fd:
        classic = file_locks.holders(fd, b"POSIX")
        of_open_files = [pid for _, pid in file_locks.holders_of_open_files(fd, b"OFDLCK")]
        asleep = [*file_locks.sleepers(fd, b"POSIX"), *file_locks.sleepers(fd, b"OFDLCK")]
    return _on_file(address, machine, [*classic, *of_open_files], asleep, {"locks": len(classic) + len(of_open_files)})


def _on_file(address: Address, machine: Machine, held: list[int], asleep: list[int], state: dict[str, int]) -> Inspection:
    users = machine.users_of_file(address.path)
    waiting = set(machine.waiting(f"file {os.path.realpath(address.path)}")).intersection(users)
    waiters = [*asleep, *waiting]
    return found(address, held, waiters, users, state=state, findings=_blocked(held, waiters))


@contextmanager
def _file(address: Address) -> Iterator[int]:
    fd = os.open(address.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        process_locks.close_file(fd)  # close(2) would drop the classic locks that this process has on it


def _blocked(holders: list[int], waiters: list[int]) -> Iterator[str]:
    if not waiters:
        return
    living = alive(holders)
    if living:
        yield f"{_named(waiters)} until {_named(living, 'releases', 'release')} it"
    elif holders:
        yield f"held for process {holders[0]}, which has ended: a child of it has the open file"


def _named(pids: list[int], verb: str = "waits", verbs: str = "wait") -> str:
    numbers = [str(pid) for pid in sorted(set(pids))]
    return f"process {numbers[0]} {verb}" if len(numbers) == 1 else f"processes {', '.join(numbers)} {verbs}"


def sysv_semaphore(address: Address, machine: Machine) -> Inspection:
    """One semaphore of a set. Of one that is 0, the process that changed it last counts as its holder."""
    project = address.options.get("project")
    semaphores = sysv.SemaphoreSet(key_of(address, None if project is None else int(project, 0)), 0, 0)
    index = int(address.options.get("index", "0"), 0)
    value, last = semaphores.value(index), semaphores.last_pid(index)
    operated = semaphores.stat().otime
    increase, zero = semaphores.waiting(index)
    name = object_name("sem", semaphores.id)
    waiters = [*machine.asleep(semaphores.id, "semop"), *machine.waiting(name, f"{name} zero")]
    holders = [last] if not value else []
    return found(
        address,
        alive(holders),
        waiters,
        alive([last]),
        state={"value": value, "last_pid": last, "sleepers": increase, "zero_sleepers": zero}
        | ({"last_operation": operated} if operated else {}),
        limits={"value": sysv.LARGEST_VALUE},
        findings=_taken(holders, waiters, value),
    )


def _taken(holders: list[int], waiters: list[int], value: int) -> Iterator[str]:
    if value == 0 and holders and not alive(holders):
        yield f"its value is 0, and process {holders[0]}, which changed it last, has ended: perhaps nobody will raise it"
    elif waiters and not value:
        yield (
            f"{_named(waiters)} for a unit; process {holders[0]} changed it last"
            if holders
            else f"{_named(waiters)} for a unit"
        )


def posix_semaphore(address: Address, machine: Machine) -> Inspection:
    """A named semaphore. Only a robust one tells its holder."""
    path = f"/dev/shm/sem.{address.path.removeprefix('/')}"  # noqa: S108 - where the C library keeps it
    users = machine.users_of_file(path)
    with open(path, "rb") as file, closing(HolderRecord(path)) as record:
        data = file.read(_SEMAPHORE.size)
        if len(data) < _SEMAPHORE.size:
            raise WrongObject(errno.EINVAL, f"{address.url}: the file in /dev/shm is not a semaphore")
        value, asleep = _SEMAPHORE.unpack(data)
        holder = record.read()
        written = int(record.shape().st_mtime)  # by who took it: what is written through the mapping leaves it as it is
    holders = [] if holder is None or value else [holder.pid]
    waiters = sorted(set(machine.waiting(f"file {path}", f"file {path} zero")).intersection(users))
    findings = list(_taken(holders, waiters, value))
    if holders and not alive(holders):
        findings = [f"process {holders[0]}, which held it, has ended: whoever opens it with robust=1 takes it"]
    elif not value and not users:
        findings = ["its value is 0, and no process has it open: perhaps nobody will raise it"]
    state = {"value": value, "sleepers": asleep} | ({"held_since": written} if holders else {})
    return found(address, alive(holders), waiters, users, state=state, findings=findings)
