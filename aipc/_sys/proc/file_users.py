"""Processes that have a file, a socket or a segment open or mapped: /proc/PID/fd and /proc/PID/maps (proc_pid_fd(5), proc_pid_maps(5)).

Other users' processes can be looked at by root only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MAPPED = re.compile(rb"^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)", re.MULTILINE)
_SEGMENT = re.compile(rb"^\S+ \S+ \S+ \S+ (\d+) +/SYSV[0-9a-f]{8}", re.MULTILINE)
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Users(NamedTuple):
    """The processes that use each file by device and inode, each socket by inode, each System V segment by number."""

    files: dict[tuple[int, int], list[int]]
    sockets: dict[int, list[int]]
    segments: dict[int, list[int]]


def users_of(files: Collection[tuple[int, int]] | None = None) -> Users:
    """Look through all processes once, for these files, by default all, and for all sockets and System V segments."""
    found = Users({}, {}, {})
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with suppress(OSError):  # it ended, or is another user's
            _note(found, pid, files)
    return found


def _note(found: Users, pid: int, files: Collection[tuple[int, int]] | None) -> None:
    maps = Path(f"/proc/{pid}/maps").read_bytes()
    used = {(os.makedev(int(major, 16), int(minor, 16)), int(inode)) for major, minor, inode in _MAPPED.findall(maps)}
    sockets = set()
    for file, target in _open(pid):
        used.add(file)
        if match := _SOCKET.fullmatch(target):
            sockets.add(int(match[1]))
    for file in used if files is None else used.intersection(files):
        found.files.setdefault(file, []).append(pid)
    for inode in sockets:
        found.sockets.setdefault(inode, []).append(pid)
    for number in {int(inode) for inode in _SEGMENT.findall(maps)}:
        found.segments.setdefault(number, []).append(pid)


def _open(pid: int) -> Iterator[tuple[tuple[int, int], str]]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        with suppress(OSError):  # closed meanwhile
            status = os.stat(path)
            yield (status.st_dev, status.st_ino), os.readlink(path)


def command_of(pid: int) -> str:
    """A process's command line, or its name; empty if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        return (words or Path(f"/proc/{pid}/comm").read_bytes().strip()).decode(errors="replace")
    except OSError:
        return ""
