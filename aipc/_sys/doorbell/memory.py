"""The memory of the waiters' table: a System V segment (shmget(2), shmop(2)), named in the table's file.

Touching a page of a mapped file that a process has shortened is SIGBUS; a segment keeps its size. The segment is removed (IPC_RMID)
as soon as its creator is attached: Linux then still lets processes attach by its number while any process is attached, and frees it
with the last one, also after kill -9. The file has three values for it: a key, which is valid only while the segment is being made;
its number; and a random mark, which is also at the start of the segment, so that another segment of the same number is rejected.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from ..sysv import memory as sysv_memory
from ..sysv import tables as sysv_tables

_NAMED = struct.Struct("=Ii16s")
_MAGIC = b"aipc"
_REMOVED = 0o1000
"""SHM_DEST, among the permissions of a segment that is freed with the last process attached to it."""


def create(fd: int, size: int) -> Any:
    """Create a segment of zeros behind its mark, named in `fd`; return a ctypes array. The caller is the table's only process."""
    _remove_unfinished(fd, size)
    mark = _MAGIC + os.urandom(12)
    while True:
        key = int.from_bytes(os.urandom(4)) >> 1 or 1
        os.pwrite(fd, _NAMED.pack(key, -1, mark), 0)  # first: if this process is killed, the next one finds the segment
        try:
            identifier = sysv_memory.get(key, size, sysv_memory.CREATE | sysv_memory.EXCLUSIVE | 0o600)
            break
        except FileExistsError:
            continue
    try:
        memory = sysv_memory.attach(identifier, size, read_only=False)
    finally:
        sysv_memory.remove(identifier)
    memory[: len(mark)] = mark
    os.pwrite(fd, _NAMED.pack(0, identifier, mark), 0)
    return memory


def attach(fd: int, size: int) -> Any:
    """Attach the segment that `fd` names; return a ctypes array. BlockingIOError if it is gone, PermissionError if none is named."""
    named = os.pread(fd, _NAMED.size, 0)
    if len(named) < _NAMED.size or not named.startswith(_MAGIC, _NAMED.size - 16):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    _, identifier, mark = _NAMED.unpack(named)
    try:
        memory = sysv_memory.attach(identifier, size, read_only=False)
    except OSError:
        memory = b""
    if memory[: len(mark)] != mark:  # any segment has at least a page
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return memory


def is_table(row: dict[str, int], size: int, fd: int) -> bool:
    """Whether a row of `sysv_tables` is a table's segment: freed with its last process, or being made, as the file `fd` tells.

    The next process removes the second if its creator was killed.
    """
    return row["size"] == size and (bool(row["perms"] & _REMOVED) if row["key"] == 0 else row["key"] == _key_in_use(fd))


def _key_in_use(fd: int) -> int:
    named = os.pread(fd, _NAMED.size, 0) if fd >= 0 else b""
    return int(_NAMED.unpack(named)[0]) if len(named) == _NAMED.size else 0


def _remove_unfinished(fd: int, size: int) -> None:
    """Remove the segment of a creator that was killed before it could."""
    key = _key_in_use(fd)
    for row in sysv_tables.rows("sysv-shm") if key else ():
        if row["key"] == key and row["size"] == size and row["uid"] == os.geteuid() and row["nattch"] == 0:
            sysv_memory.remove(row["id"])
