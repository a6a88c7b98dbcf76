"""Holders of file locks, and processes that sleep for one: /proc/locks and /proc/PID/fdinfo (proc_locks(5), proc_pid_fdinfo(5))."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..byte_locks import TOP, Range

WHOLE = Range(0, TOP)
_LOCKS = Path("/proc/locks")
_FIRST_NAMESPACE = 0xEFFFFFFC
"""The inode of the initial PID namespace (PROC_PID_INIT_INO in the kernel's sources)."""


class _Entry(NamedTuple):
    kind: bytes
    pid: int
    file: bytes
    where: Range
    waits: bool


def _entries(text: bytes) -> Iterator[_Entry]:
    for line in text.splitlines():
        fields = line.removeprefix(b"lock:").split()
        waits = fields[1:2] == [b"->"]
        if waits:
            del fields[1]
        if len(fields) == 8:  # number, kind, mode, access, pid, file, first byte, last byte
            end = TOP if fields[7] == b"EOF" else int(fields[7]) + 1
            yield _Entry(fields[1], int(fields[4]), fields[5], Range(int(fields[6]), end), waits)


def _identity(fd: int) -> bytes:
    """The file as /proc/locks names it: its file system's device, and its inode.

    On btrfs and overlayfs stat(2) returns another device for each subvolume or layer; the file system's own device is that of the
    mount (proc_pid_mountinfo(5)). Mount points are bytes, in no known encoding.
    """
    info = Path(f"/proc/self/fdinfo/{fd}").read_bytes()
    about = dict(line.split(b":\t", 1) for line in info.splitlines() if b":\t" in line)
    file = os.fstat(fd)
    device = b"%d:%d" % (os.major(file.st_dev), os.minor(file.st_dev))
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        mount, _, of_mount, *_ = line.split(b" ", 3) if line else (b"", b"", b"")
        if mount == about.get(b"mnt_id"):
            device = of_mount
    major, minor = map(int, device.split(b":"))
    return b"%02x:%02x:%d" % (major, minor, int(about.get(b"ino", file.st_ino)))


def complete() -> bool:
    """Whether `holders` finds every holder: not those outside of this PID namespace, or that have ended; none without /proc."""
    return _LOCKS.exists() and os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE


def holders(fd: int, kind: bytes) -> list[int]:
    """Return the processes that took a lock of `kind` (FLOCK, POSIX), still held, on the file that is open as `fd`.

    They may have ended, if others share the open file. A lock on another machine has no pid, or a negative one.
    """
    if not _LOCKS.exists():
        return []
    wanted = _identity(fd)
    found = _entries(_LOCKS.read_bytes())
    return [entry.pid for entry in found if entry.file == wanted and entry.kind == kind and not entry.waits]


def sleepers(fd: int, kind: bytes) -> list[int]:
    """Return the processes that sleep until a lock of `kind` (FLOCK, POSIX) on the file that is open as `fd` is released."""
    if not _LOCKS.exists():
        return []
    wanted = _identity(fd)
    return [entry.pid for entry in _entries(_LOCKS.read_bytes()) if entry.file == wanted and entry.kind == kind and entry.waits]


def awaited(fd: int, kinds: Collection[bytes], where: Range = WHOLE) -> bool:
    """Whether a process sleeps until a lock of one of `kinds` (FLOCK, POSIX, OFDLCK) on a byte of `where` is released.

    FileNotFoundError without /proc.
    """
    text = _LOCKS.read_bytes()
    if b"->" not in text:  # no process sleeps for any lock: skip the cost of this file's name
        return False
    wanted = _identity(fd)
    return any(
        entry.waits and entry.file == wanted and entry.kind in kinds and entry.where.overlaps(where) for entry in _entries(text)
    )


def open_file_holder(fd: int, kind: bytes, where: Range = WHOLE) -> int | None:
    """Return a process that has the file open with a lock of `kind` (FLOCK, OFDLCK) of that open file, on a byte of `where`.

    /proc/locks has -1 for the pid of an OFDLCK, and the taker's pid for a FLOCK. If several processes share the open file, as after
    a fork, the lowest pid; None if all are other users' processes, which cannot be inspected, or there is no /proc.
    """
    return next((pid for held, pid in holders_of_open_files(fd, kind) if held.overlaps(where)), None)


def holders_of_open_files(fd: int, kind: bytes) -> Iterator[tuple[Range, int]]:
    """Yield each process that has the file that is open as `fd` open with a lock of `kind`, and the bytes; lower pids first."""
    wanted = _identity(fd) if _LOCKS.exists() else b""
    for pid, _, entry in _held_by_open_files():
        if entry.file == wanted and entry.kind == kind:
            yield entry.where, pid


def locked_files() -> set[tuple[str, bytes]]:
    """Every file that a process has locked, with the kind of the lock. Removed files are left out."""
    found = set()
    for pid, name, entry in _held_by_open_files():
        with suppress(OSError):
            path = os.readlink(f"/proc/{pid}/fd/{name}")
            if path.startswith("/") and not path.endswith(" (deleted)"):
                found.add((path, entry.kind))
    return found


def _held_by_open_files() -> Iterator[tuple[int, str, _Entry]]:
    """Each lock of each process's open files: the process, lower pids first, the descriptor, and the lock."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()) if _LOCKS.exists() else ():
        with suppress(OSError):  # it ended, or is another user's
            for name in os.listdir(f"/proc/{pid}/fdinfo"):
                info = Path(f"/proc/{pid}/fdinfo/{name}").read_bytes()
                if b"\nlock:" in info:
                    yield from ((pid, name, entry) for entry in _entries(info))
