"""Which process is it, and does it live (pidfd_open(2), proc_pid_stat(5))."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, told from a later one that has its number again.

    start       when it began, clock ticks since the machine did
    namespace   the PID namespace in which `pid` is its number (pid_namespaces(7))
    """

    pid: int
    start: int
    namespace: int


def this_process() -> Process:
    """The one that asks."""
    pid = os.getpid()
    return Process(pid, _start(pid) or 0, os.stat("/proc/self/ns/pid").st_ino)


def has_ended(process: Process) -> bool:
    """Whether it has, reaped or not. Only of this PID namespace; a program that it has become by execve(2) is the same."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        start = _start(process.pid)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0)) or start not in (process.start, None)
    finally:
        os.close(fd)


def _start(pid: int) -> int | None:
    """When it began; None if it has just ended, or is not ours to see (`hidepid`, proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return int(text[text.rindex(b")") :].split()[20])
