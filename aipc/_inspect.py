"""`aipc.inspect`: what the kernel knows of the object behind a URL, without opening a channel or taking a lock."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from inspect import signature
from typing import NamedTuple

from aipc._address import Address, parse
from aipc._io.errors import naming
from aipc._open import CHANNELS, LISTENERS, LOCKS, opener_of
from aipc._sys.holder_record import HolderRecord
from aipc._sys.proc import file_locks
from aipc._sys.proc.file_users import command_of, users_of
from aipc._sys.proc.unix_sockets import bound_sockets
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv import tables
from aipc._sys.sysv.key import key_of
from aipc.exceptions import UnsupportedOperation

_SEMAPHORE = struct.Struct("=II")
"""glibc's sem_t on 64 bits, with the low half first: the value, and the number of processes in sem_wait(3)."""


class ProcessInfo(NamedTuple):
    """A process: its number and its command line, which is empty if it has ended."""

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """An object as it is now.

    holders   processes that hold the lock, listen at the socket, or have the queue's other side
    waiters   processes that sleep in the kernel for it
    users     processes that have it open or attached: of a lock, those that do not hold it may be polling for it
    state     numbers as of now, such as `messages`, `bytes`, `value`
    limits    numbers that `state` can't exceed
    options   the names of the options that the URL may have
    """

    url: str
    holders: tuple[ProcessInfo, ...] = ()
    waiters: tuple[ProcessInfo, ...] = ()
    users: tuple[ProcessInfo, ...] = ()
    state: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def inspect(url: str) -> Inspection:
    """Return what there is to know of an object, by URL. Nothing is opened for use, taken, or changed.

    Other users' processes are seen by root only. Errors: AddressError for an invalid URL, ObjectMissing if there is no such object,
    AccessDenied if it cannot be read, UnsupportedOperation for a scheme whose object the kernel does not show.
    """
    address = parse(url)
    look = _LOOKS.get(address.scheme)
    if look is None:
        raise UnsupportedOperation(f"{url}: inspect knows {', '.join(_LOOKS)}")
    with naming(url):
        return look(address)


def _found(
    address: Address,
    holders: Collection[int] = (),
    waiters: Collection[int] = (),
    users: Collection[int] = (),
    **more: Mapping[str, int],
) -> Inspection:
    table = LOCKS if address.scheme in LOCKS else CHANNELS if address.scheme in CHANNELS else LISTENERS
    known = signature(opener_of(table, address)).parameters.values()
    return Inspection(
        address.url,
        _processes(holders),
        _processes(waiters),
        _processes(users),
        options=tuple(sorted(one.name for one in known if one.kind is one.KEYWORD_ONLY)),
        **more,
    )


def _processes(pids: Collection[int]) -> tuple[ProcessInfo, ...]:
    return tuple(ProcessInfo(pid, command_of(pid)) for pid in sorted(set(pids)) if pid > 0)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _users(path: str) -> list[int]:
    """The processes that have a file open, other than by this look at it."""
    identity = _identity(path)
    return users_of([identity]).files.get(identity, [])


def _flock(address: Address) -> Inspection:
    users = _users(address.path)
    fd = os.open(address.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        holders, waiters = file_locks.holders(fd, b"FLOCK"), file_locks.sleepers(fd, b"FLOCK")
    finally:
        os.close(fd)
    return _found(address, holders, waiters, users)


def _sysv_semaphore(address: Address) -> Inspection:
    semaphores = sysv.SemaphoreSet(_key(address), 0, 0)
    index = int(address.options.get("index", "0"), 0)
    increase, zero = semaphores.waiting(index)
    state = {
        "value": semaphores.value(index),
        "last_pid": semaphores.last_pid(index),
        "sleepers": increase,
        "zero_sleepers": zero,
    }
    return _found(address, state=state, limits={"value": sysv.LARGEST_VALUE})


def _posix_semaphore(address: Address) -> Inspection:
    path = f"/dev/shm/sem.{address.path.removeprefix('/')}"  # noqa: S108 - where the C library keeps it
    users = _users(path)
    with open(path, "rb") as file, closing(HolderRecord(path)) as record:
        value, sleepers = _SEMAPHORE.unpack(file.read(_SEMAPHORE.size))
        holder = record.read()
    holders = () if holder is None or value else (holder.pid,)
    return _found(address, holders, users=users, state={"value": value, "sleepers": sleepers})


def _sysv_queue(address: Address) -> Inspection:
    key = _key(address)
    row = next((row for row in tables.rows("sysv-mq") if key is not None and row["key"] == key & 0xFFFFFFFF), None)
    if row is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    state = {"messages": row["qnum"], "bytes": row["cbytes"], "last_sender": row["lspid"], "last_receiver": row["lrpid"]}
    with open("/proc/sys/kernel/msgmnb") as limit:
        return _found(address, users=[row["lspid"], row["lrpid"]], state=state, limits={"bytes": int(limit.read())})


def _key(address: Address) -> int | None:
    project = address.options.get("project")
    return key_of(address, None if project is None else int(project, 0))


def _socket(address: Address) -> Inspection:
    inodes = bound_sockets().get(os.path.abspath(address.path))
    os.stat(address.path)
    sockets = users_of(()).sockets
    holders = [pid for inode in inodes or () for pid in sockets.get(inode, ())]
    return _found(address, holders, state={"sockets": len(inodes or ())})


def _fifo(address: Address) -> Inspection:
    return _found(address, users=_users(address.path))


_LOOKS: dict[str, Callable[[Address], Inspection]] = {
    "flock": _flock,
    "sysv-sem": _sysv_semaphore,
    "posix-sem": _posix_semaphore,
    "sysv-mq": _sysv_queue,
    "unix": _socket,
    "unix+seqpacket": _socket,
    "unix+dgram": _socket,
    "shm": _socket,
    "fifo": _fifo,
}
