"""Which process is it, does it live, and how did it end (pidfd_open(2), proc_pid_stat(5), wait(2), prctl(2))."""

from __future__ import annotations

import ctypes
import os
import select
import signal
from pathlib import Path
from typing import NamedTuple

from .signal_numbers import name_of

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_ENDED = (b"Z", b"X")


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


def group_lives(group: int) -> bool:
    """Whether a process group has a member that has not ended. One that nobody has reaped has ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return any(_lives_in(group, entry) for entry in os.listdir("/proc") if entry.isdecimal())


def _lives_in(group: int, pid: str) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    state, _, member_of, *_ = text[text.rindex(b")") + 1 :].split()
    return int(member_of) == group and state not in _ENDED


def die_with(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have this process sent `signum` when the thread that started it ends; at once if `parent` has ended already.

    PR_SET_PDEATHSIG (prctl(2)). Only a few system calls, and so harmless in a forked child.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signum)


def describe_exit(returncode: int | None, *, core_dumped: bool = False) -> str:
    """How a process ended, as a shell would say it: "exit status 3", "killed by SIGSEGV (core dumped)". None: "running"."""
    if returncode is None:
        return "running"
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"killed by {name_of(-returncode)}" + (" (core dumped)" if core_dumped else "")
