"""Who holds a lock on a file: /proc/locks and /proc/PID/fdinfo (proc_locks(5), proc_pid_fdinfo(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def _identity(fd: int) -> str:
    """The file as /proc/locks calls it: its file system's device, and its inode.

    stat(2) has others on btrfs and overlayfs, which give each subvolume or layer a device of its own: the file system's own
    is that of the mount (proc_pid_mountinfo(5)).
    """
    about = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines() if ":\t" in line)
    file = os.fstat(fd)
    device = f"{os.major(file.st_dev)}:{os.minor(file.st_dev)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, of_mount = line.split()[:3]
        if mount == about.get("mnt_id"):
            device = of_mount
    major, minor = map(int, device.split(":"))
    return f"{major:02x}:{minor:02x}:{about.get('ino', file.st_ino)}"


def _held(lines: str, kind: str) -> Iterator[tuple[int, str, int, float]]:
    """Of /proc/locks' lines, those of `kind` that are held: pid, file, first byte, last byte."""
    for line in lines.splitlines():
        fields = line.removeprefix("lock:").split()
        if len(fields) == 8 and fields[1] == kind:  # a waiter's line has "->" there
            yield int(fields[4]), fields[5], int(fields[6]), float("inf") if fields[7] == "EOF" else int(fields[7])


def holders(fd: int, kind: str) -> list[int]:
    """The pids that hold a lock of `kind` ("FLOCK", "POSIX") on the file that is open as `fd`."""
    wanted = _identity(fd)
    return [pid for pid, file, _, _ in _held(Path("/proc/locks").read_text(), kind) if file == wanted]


def open_file_holder(fd: int, start: int, end: int) -> int | None:
    """A process that has the file open with an open-file-description lock (OFDLCK) on bytes from `start` up to `end`.

    /proc/locks has -1 for its pid. Where several processes share the open file, as after a fork, the lowest pid; None if
    all are other users' processes, into which one can't look.
    """
    wanted = _identity(fd)
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            for name in os.listdir(f"/proc/{pid}/fdinfo"):
                lines = "\n".join(
                    line for line in Path(f"/proc/{pid}/fdinfo/{name}").read_text().splitlines() if line[:5] == "lock:"
                )
                if any(file == wanted and first < end and last >= start for _, file, first, last in _held(lines, "OFDLCK")):
                    return pid
        except OSError:
            continue  # it ended, or is not ours
    return None
