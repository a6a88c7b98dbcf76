"""Listing and removing kernel objects: as ipcs(1) and ipcrm(1), and also POSIX objects, FIFOs and socket files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import posix_ipc
import sysv_ipc

from aipc._address import keyed, options, parse
from aipc._io.doorbell import Doorbell
from aipc._io.errors import os_error, translate
from aipc._sys.sysv import primitives
from aipc._sys.sysv import tables as sysv_tables
from aipc._sys.sysv.key import key_of, object_name
from aipc.exceptions import AddressError, WrongObject

from ._sys.files import path_reserved, short_path, socket_in_use
from ._sys.proc.unix_sockets import bound_sockets

_SHM, _MQUEUE = "/dev/shm", "/dev/mqueue"  # noqa: S108 - where the kernel shows them
KINDS = (*sysv_tables.KINDS, "posix-shm", "posix-sem", "posix-mq", "fifo", "unix")
"""Every kind of object, as URLs call the mechanism."""
_REMOVED = 0o1000  # SHM_DEST (shmctl(2)); queues and sets go at once
_WAITED_FOR = {"sysv-sem": ("sem", ("", " zero")), "sysv-mq": ("queue", (" in", " out"))}
"""The names under which tasks wait for an object: they are told when it is removed."""


class IpcObject(NamedTuple):
    """An object that outlives its process. Sizes are bytes; None where the kernel gives no value."""

    kind: str
    """One of sysv-mq, sysv-sem, sysv-shm, posix-shm, posix-sem, posix-mq, fifo, unix."""
    name: str
    """Its name in a URL: a key such as `0x4d2`, or `private`; a POSIX name such as `/table`; a path."""
    id: int | None
    """The kernel's number of a System V object."""
    key: int | None
    """The key of a System V object, 32 bits; 0 if it is private."""
    uid: int
    """Its owner."""
    mode: int
    """Its permissions, such as 0o600."""
    size: int | None
    """Bytes of a segment, or waiting in a queue."""
    items: int | None
    """Messages in a System V queue, semaphores in a set."""
    users: int | None
    """Attachments of a System V segment; live sockets bound to a socket file's path: 0 means stale."""
    pids: tuple[int, ...]
    """Who sent and received last (queue), or created it and was attached last (segment), of System V objects."""
    removed: bool = False
    """A segment that was removed, but is still attached: ipcs(1) says "dest". It has lost its key, and goes with its last user."""

    @property
    def alias(self) -> str | None:
        """What a semaphore set is to aipc: its kind and path, such as `event:/run/app.ready`. None if it is no primitive of aipc's."""
        if self.kind != "sysv-sem" or self.id is None:
            return None
        return primitives.alias(self.id, self.key or 0, self.uid)


def list_objects(*directories: str | os.PathLike[str]) -> list[IpcObject]:
    """Return every object that this process can see: System V and POSIX objects, and the socket files of live sockets.

    FIFOs and stale socket files look like other files: those in `directories` are listed, too. POSIX queues are listed where
    `/dev/mqueue` is mounted (mq_overview(7)). ObjectMissing or AccessDenied for a directory that cannot be read.
    """
    found = [*_system_v(), *_posix()]
    bound = {path: len(inodes) for path, inodes in bound_sockets().items()}
    paths = dict.fromkeys(bound)
    for directory in directories:
        where = os.path.abspath(directory)
        try:
            paths.update(dict.fromkeys(os.path.join(where, name) for name in sorted(os.listdir(where))))
        except OSError as error:
            raise translate(error, where) from None
    return [*found, *_files(paths, bound)]


def remove_object(
    what: IpcObject | str, identifier: int | str | None = None, *, project: int | None = None, force: bool = False
) -> None:
    """Remove an object from the kernel (ipcrm(1), mq_unlink(3), shm_unlink(3), sem_unlink(3), unlink(2)).

    Args:
        what: An object that `list_objects` returned, or a kind, such as `"sysv-mq"`.
        identifier: With a kind: the number of a System V object as in `ipcs`, its key (`"0x4d2"`), a POSIX name, or a path.
        project: From 1 to 255: `identifier` is the path from which a System V key was made (ftok(3)), as in
            `remove_object("sysv-mq", "kirk.c", project=66)`.
        force: Remove a socket file although a live process has its socket. Nobody can connect to it afterwards.

    ObjectMissing: it does not exist. AccessDenied: it belongs to another user. WrongObject: the path is an object of another kind.
    ObjectExists: the socket of a live process, without `force`. AddressError: no such kind, or a malformed identifier.
    """
    if isinstance(what, IpcObject):
        kind, identifier = what.kind, what.name if what.id is None else what.id
    else:
        kind = what
    if kind not in KINDS:
        raise AddressError(f"kind {kind!r}: must be one of {', '.join(KINDS)}")
    if kind in sysv_tables.KINDS:
        _remove_system_v(kind, identifier, project)
        return
    if project is not None:
        raise AddressError(f"{kind}: project={project}: goes with a path for the key of a System V object")
    if not isinstance(identifier, str):
        raise AddressError(f"{kind} {identifier!r}: must be a name, such as '/table', or a path")
    try:
        _remove_named(kind, identifier, force)
    except OSError as error:
        raise translate(error, f"{kind} {identifier}") from None


def _system_v() -> Iterator[IpcObject]:
    columns = {
        "sysv-mq": ("cbytes", "qnum", "", ("lspid", "lrpid")),
        "sysv-sem": ("", "nsems", "", ()),
        "sysv-shm": ("size", "", "nattch", ("cpid", "lpid")),
    }
    for kind, (size, items, users, pids) in columns.items():
        for row in sysv_tables.rows(kind):
            yield IpcObject(
                kind,
                hex(row["key"]) if row["key"] else "private",
                row["id"],
                row["key"],
                row["uid"],
                row["perms"] & 0o777,
                row.get(size),
                row.get(items),
                row.get(users),
                tuple(row[pid] for pid in pids if row[pid]),
                bool(row["perms"] & _REMOVED),
            )


def _posix() -> Iterator[IpcObject]:
    for directory in (_SHM, _MQUEUE):
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue  # gone meanwhile
            if not stat.S_ISREG(status.st_mode):
                continue
            if directory == _MQUEUE:
                yield _file("posix-mq", "/" + name, status, size=_waiting(path))
            elif name.startswith("sem."):
                yield _file("posix-sem", "/" + name.removeprefix("sem."), status)
            else:
                yield _file("posix-shm", "/" + name, status, size=status.st_size)


def _file(kind: str, name: str, status: os.stat_result, *, size: int | None = None, users: int | None = None) -> IpcObject:
    return IpcObject(kind, name, None, None, status.st_uid, stat.S_IMODE(status.st_mode), size, None, users, ())


def _waiting(path: str) -> int | None:
    """The bytes that wait in a POSIX queue."""
    try:
        fields = dict(field.split(":", 1) for field in Path(path).read_text().split() if ":" in field)
        return int(fields["QSIZE"])
    except (OSError, KeyError, ValueError):
        return None  # not readable, or gone


def _files(paths: dict[str, None], bound: dict[str, int]) -> Iterator[IpcObject]:
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError:
            continue  # gone, or out of this process's reach
        if stat.S_ISSOCK(status.st_mode):
            yield _file("unix", path, status, users=bound.get(path, 0))
        elif stat.S_ISFIFO(status.st_mode):
            yield _file("fifo", path, status)


def _identifier(kind: str, key: str, project: int | None) -> int:
    """The kernel's number of the object with that key."""
    address = parse(keyed(kind, key))
    given = {} if project is None else {"project": project}
    number = key_of(address, options(address, frozenset({"project"}), given).get("project"))
    if number is None:
        raise address.error("a private object is removed by its number")
    for row in sysv_tables.rows(kind):
        if row["key"] == number & 0xFFFFFFFF:
            return row["id"]
    raise os_error(errno.ENOENT, f"{kind} {key}", f"no object has that key, {number & 0xFFFFFFFF:#x}")


def _remove_system_v(kind: str, identifier: int | str | None, project: int | None) -> None:
    where = f"{kind} {identifier}"
    if isinstance(identifier, str):
        identifier = _identifier(kind, identifier, project)
    if isinstance(identifier, bool) or not isinstance(identifier, int) or not 0 <= identifier < 1 << 31:
        raise AddressError(f"{where}: must be the kernel's number of it, as in ipcs(1), or a key, such as '0x4d2'")
    remove: dict[str, Callable[[int], None]] = {
        "sysv-mq": sysv_ipc.remove_message_queue,
        "sysv-sem": sysv_ipc.remove_semaphore,
        "sysv-shm": sysv_ipc.remove_shared_memory,
    }
    row = sysv_tables.row(kind, identifier)
    try:
        remove[kind](identifier)
    except sysv_ipc.ExistentialError:
        raise os_error(errno.ENOENT, where, "there is no such object") from None
    except sysv_ipc.PermissionsError:
        raise os_error(errno.EPERM, where, "only its owner, its creator or root may remove it") from None
    if kind == "sysv-sem" and row is not None:
        primitives.forget(row["key"], row["uid"])
    called, what_for = _WAITED_FOR.get(kind, ("", ()))
    for suffix in what_for:
        doorbell = Doorbell(object_name(called, identifier) + suffix)
        doorbell.notify()
        doorbell.close()


def _remove_named(kind: str, name: str, force: bool) -> None:
    if kind == "fifo":
        _must_be(name, stat.S_ISFIFO, "a FIFO")
        os.unlink(name)
    elif kind == "unix":
        _must_be(name, stat.S_ISSOCK, "a socket")
        _remove_socket(name, force)
    elif kind == "posix-mq":
        _remove_queue("/" + _bare(name))
    else:
        path = os.path.join(_SHM, ("sem." if kind == "posix-sem" else "") + _bare(name))
        _must_be(path, stat.S_ISREG, "such an object")
        os.unlink(path)


def _bare(name: str) -> str:
    bare = name.removeprefix("/")
    if bare in {"", ".", ".."} or "/" in bare or "\0" in bare:
        raise AddressError(f"{name!r}: a POSIX object's name is like '/table', without another slash")
    return bare


def _must_be(path: str, kind: Callable[[int], bool], what: str) -> None:
    if not kind(os.lstat(path).st_mode):
        raise WrongObject(errno.EINVAL, f"{path}: not {what}; it was left alone")


def _remove_queue(name: str) -> None:
    try:
        posix_ipc.unlink_message_queue(name)
    except posix_ipc.ExistentialError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    except posix_ipc.PermissionsError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def _remove_socket(path: str, force: bool) -> None:
    try:
        with short_path(path) as short, path_reserved(path, path):
            if not force and socket_in_use(short):
                raise os_error(
                    errno.EADDRINUSE, path, "a live process has this socket; it was left alone (force=True removes it)"
                )
            os.unlink(path)
    except BlockingIOError:
        raise os_error(errno.EAGAIN, path, "another process is about to listen there; try again") from None
