"""System V shared memory (shmget(2), shmop(2), shmctl(2), sysvipc(7))."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any, NamedTuple, Self

from aipc._address import Address
from aipc._io.errors import os_error, translate
from aipc._sys.processes import Process, has_ended
from aipc._sys.sysv import memory as sysv
from aipc._sys.sysv import tables as sysv_tables
from aipc._sys.sysv.key import key_of
from aipc._sys.sysv.permissions import checked_change
from aipc.abc import Lock

from .base import MAKE, MappedSegment, checked_mode, checked_size, explained
from .creation import NotReady, Prepare, open_or_create, when_ready

_DESTROYED, _LOCKED = 0o1000, 0o2000
_PREPARING = 0o610
"""The mode of a segment while it is prepared: execute permission, which the kernel keeps and never asks for (svipc(7))."""
_GONE = frozenset({errno.EINVAL, errno.EIDRM})

Key = int | str | None
"""A key: 0x4d2, "0x4d2", a path with `project`, or None (also "private") for a segment without a key."""


class SharedMemoryStatus(NamedTuple):
    """The kernel's data on a System V segment (shmctl(2), proc_sysvipc(5)). Sizes are bytes, times seconds since 1970."""

    key: int
    id: int
    uid: int
    gid: int
    mode: int
    size: int
    attached: int
    """The number of attachments in all processes (nattch)."""
    creator_pid: int
    last_pid: int
    """The process that attached or detached last; 0 if none has."""
    attach_time: int
    detach_time: int
    change_time: int
    pinned: bool
    """Whether it is kept in memory (SHM_LOCK)."""
    removed: bool
    """Whether it is removed when the last process detaches (IPC_RMID)."""

    @property
    def nattch(self) -> int:
        """`attached`, by its name in C."""
        return self.attached

    @property
    def ctime(self) -> int:
        """`change_time`, by its name in C."""
        return self.change_time


class SysVSharedMemory(MappedSegment):
    """A System V segment. It stays until a process removes it, at most until the next boot; the kernel counts its attachments.

    Made by `create`, `open` and `attach`. Its size never changes, so no peer can remove memory under a view.
    """

    __slots__ = ("_id", "_size")

    def __init__(
        self, name: str, identifier: int, size: int, *, read_only: bool, unlink: bool = False, lock: Lock | str | None = None
    ) -> None:
        self._id = identifier
        self._size = size
        memory = sysv.attach(identifier, size, read_only=read_only)
        super().__init__(name, memory, read_only=read_only, unlink=unlink, lock=lock)

    @classmethod
    def create(
        cls,
        key: Key,
        size: int,
        *,
        project: int | None = None,
        mode: int = 0o600,
        unlink: bool = False,
        lock: Lock | str | None = None,
    ) -> Self:
        """Make `size` zero bytes under `key`. ObjectExists if the key is taken; NoSpace over the kernel's limits.

        `unlink` removes it on close, in this process only. A private segment (None) is reached by its `id`, or by fork.
        """
        return cls._created(key, size, project=project, mode=mode, unlink=unlink, lock=lock, prepare=None)

    @classmethod
    def open_or_create(
        cls,
        key: Key,
        size: int,
        *,
        project: int | None = None,
        mode: int = 0o600,
        prepare: Prepare | None = None,
        lock: Lock | str | None = None,
    ) -> Self:
        """Attach the segment of `key`, or make it, as `open` and `create` do: any number of processes may at once.

        `prepare(view)` writes the first bytes of a new one; it runs in one process only. If it raises, there is no segment; if
        its process dies, another one begins anew. Meanwhile the segment's mode is 0o610, for which aipc's `open` and `attach`
        wait, too: up to 0.1 s, as the loop waits as well, then WrongObject; `aipc.wait_ready` waits longer. A C program does
        not wait. WrongObject if there is a smaller segment.
        """
        address = _address(key)
        number = key_of(address, project)
        checked_size(address.url, size)
        if number is None:
            raise address.error("a private segment is always a new one: SysVSharedMemory.create(None, size)")
        return open_or_create(
            size,
            lambda: cls._found(address.url, number, lock),
            lambda: cls._created(key, size, project=project, mode=mode, unlink=False, lock=lock, prepare=prepare),
        )

    @classmethod
    def _found(cls, name: str, key: int, lock: Lock | str | None) -> Self:
        """The segment of that key; one that will never be ready is removed, and then missing."""
        with explained(name):
            identifier = sysv.get(key, 0, 0)
            if _is_abandoned(identifier):
                with suppress(OSError):
                    sysv.remove(identifier)
                raise os_error(errno.ENOENT, name, "whoever made it died before it was ready")
            return cls._attached(name, identifier, False, lock)

    @classmethod
    def _created(
        cls,
        key: Key,
        size: int,
        *,
        project: int | None,
        mode: int,
        unlink: bool,
        lock: Lock | str | None,
        prepare: Prepare | None,
    ) -> Self:
        address = _address(key)
        number = key_of(address, project)
        checked_size(address.url, size)
        checked_mode(address.url, mode)
        if mode == _PREPARING:
            raise address.error(f"mode={mode:#o}: means that a segment is being prepared (open_or_create); take 0o600")
        if size > sysv.largest():
            raise os_error(
                errno.ENOSPC, address.url, f"size={size:,}: the kernel's limit (kernel.shmmax) is {sysv.largest():,}"
            )

        with explained(address.url):
            first = mode if prepare is None else _PREPARING
            identifier = sysv.get(number, size, sysv.CREATE | sysv.EXCLUSIVE | first)
            try:
                if prepare is not None:
                    prepare(memoryview(sysv.attach(identifier, size, read_only=False)).cast("B"))
                    sysv.change(identifier, mode=mode, uid=None, gid=None)
                return cls(address.url, identifier, size, read_only=False, unlink=unlink, lock=lock)
            except BaseException:
                sysv.remove(identifier)
                raise

    @classmethod
    def open(cls, key: Key, read_only: bool = False, *, project: int | None = None, lock: Lock | str | None = None) -> Self:
        """Attach the segment of `key`. ObjectMissing if there is none; AccessDenied if its mode forbids it."""
        address = _address(key)
        number = key_of(address, project)
        if number is None:
            raise address.error("a private segment is opened by its number: SysVSharedMemory.attach(id)")
        with explained(address.url, MAKE):
            return when_ready(lambda: cls._attached(address.url, sysv.get(number, 0, 0), read_only, lock))

    @classmethod
    def attach(cls, id: int, read_only: bool = False, *, lock: Lock | str | None = None) -> Self:
        """Attach the segment of that number, as in `ipcs -m`. ObjectMissing if there is none."""
        name = f"sysv-shm id {id}"
        with explained(name):
            return when_ready(lambda: cls._attached(name, id, read_only, lock))

    @classmethod
    def _attached(cls, name: str, identifier: int, read_only: bool, lock: Lock | str | None) -> Self:
        row = sysv_tables.row("sysv-shm", identifier)
        if row is None:
            raise os_error(errno.ENOENT, name, "there is no such segment")
        if _in_preparation(row):
            raise NotReady(
                errno.EINVAL,
                f"{name}: process {row['cpid']} made it, and has yet to prepare it. If it never will: `ipcrm -m {identifier}`",
            )
        return cls(name, identifier, row["size"], read_only=read_only, lock=lock)

    @property
    def size(self) -> int:
        return self._size

    @property
    def id(self) -> int:
        """The kernel's number of the segment, as in `ipcs -m`."""
        return self._id

    def stat(self) -> SharedMemoryStatus:
        """What the kernel knows of it (IPC_STAT), also after `close`. ObjectMissing if it is gone."""
        row = sysv_tables.row("sysv-shm", self._id)
        if row is None:
            raise os_error(errno.ENOENT, self._name, "the segment is gone")
        return SharedMemoryStatus(
            key=row["key"],
            id=row["id"],
            uid=row["uid"],
            gid=row["gid"],
            mode=row["perms"] & 0o777,
            size=row["size"],
            attached=row["nattch"],
            creator_pid=row["cpid"],
            last_pid=row["lpid"],
            attach_time=row["atime"],
            detach_time=row["dtime"],
            change_time=row["ctime"],
            pinned=bool(row["perms"] & _LOCKED),
            removed=bool(row["perms"] & _DESTROYED),
        )

    def status(self) -> SharedMemoryStatus:
        """The same as `stat`."""
        return self.stat()

    def change(self, *, mode: int | None = None, uid: int | None = None, gid: int | None = None) -> None:
        """Change what is given, all at once (IPC_SET). AccessDenied, unless the segment is ours; ObjectMissing if it is gone.

        Who is attached stays so: a mode counts when somebody attaches.
        """
        checked_change(self._name, mode=mode, uid=uid, gid=gid)
        try:
            sysv.change(self._id, mode=mode, uid=uid, gid=gid)
        except OSError as error:
            if error.errno in _GONE:
                raise os_error(errno.ENOENT, self._name, "the segment is gone") from None
            raise translate(error, self._name) from None

    def pin(self) -> None:
        """Keep it in memory, out of swap space (SHM_LOCK). AccessDenied or NoSpace over RLIMIT_MEMLOCK."""
        self._asked(sysv.lock)

    def unpin(self) -> None:
        """Allow swapping again (SHM_UNLOCK)."""
        self._asked(sysv.unlock)

    def _asked(self, call: Any) -> None:
        self._opened()
        with explained(self._name):
            call(self._id)

    def _remove(self, *, missing_ok: bool) -> None:
        status = sysv_tables.row("sysv-shm", self._id)
        try:
            if status is not None and not status["perms"] & _DESTROYED:
                sysv.remove(self._id)
                return
        except OSError as error:
            if error.errno not in _GONE:
                raise translate(error, self._name) from None
        if not missing_ok:
            raise os_error(errno.ENOENT, self._name, "removed already")


def _in_preparation(row: dict[str, int]) -> bool:
    return row["perms"] & 0o777 == _PREPARING


def _is_abandoned(identifier: int) -> bool:
    """Whether its maker died before it was ready. Asked again after the death: it may have finished, and then ended."""
    row = sysv_tables.row("sysv-shm", identifier)
    if row is None or not _in_preparation(row) or not row["cpid"] or not has_ended(Process(row["cpid"], 0, 0)):
        return False
    row = sysv_tables.row("sysv-shm", identifier)
    return row is not None and _in_preparation(row)


def _address(key: Key) -> Address:
    if key is not None and (isinstance(key, bool) or not isinstance(key, int | str)):
        raise TypeError(f"key={key!r}: must be a number, a str such as '0x4d2' or '/etc/app.conf', or None for a private one")
    text = "private" if key is None else hex(key) if isinstance(key, int) else key
    return Address(f"sysv-shm:{text}", "sysv-shm", text)
