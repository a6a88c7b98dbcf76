"""Processes: their identity, whether they live, and how they ended (pidfd_open(2), proc_pid_stat(5), wait(2), prctl(2))."""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path
from typing import NamedTuple

from .libc import libc
from .signals.numbers import name_of

_PR_SET_PDEATHSIG = 1
_ENDED = (b"Z", b"X")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = 4096
_LARGEST_TICKS = 1 << 40
"""More ticks than any machine runs for: a start before the boot, in the reader's time namespace, appears as such."""


class Process(NamedTuple):
    """A process, distinguished from a later one with the same number.

    start       its start in clock ticks since the boot, as the initial time namespace counts them; 0: unknown
    namespace   the PID namespace in which `pid` is its number (pid_namespaces(7))
    """

    pid: int
    start: int
    namespace: int


def this_process() -> Process:
    """Return the calling process. OSError without /proc."""
    start = _shown_start("self")
    shift = _shift()
    known = 0 if start is None or shift is None else start - shift
    return Process(os.getpid(), known, os.stat("/proc/self/ns/pid").st_ino)


def has_ended(process: Process) -> bool:
    """Whether it has ended, reaped or not. Only in this PID namespace; after execve(2) it is the same process."""
    try:
        os.close(pidfd_of(process))
    except ProcessLookupError:
        return True
    return False


def pidfd_of(process: Process) -> int:
    """A pidfd, readable once the process ends. ProcessLookupError if it has, reaped or not. Only of this PID namespace."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # by now the number is a thread's
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
        raise
    try:
        another = _is_another(process, fd)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if poll.poll(0) or another:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_another(process: Process, pidfd: int) -> bool:
    """Whether the process behind `pidfd` is certainly not `process`, but a later one with its number."""
    shown = _shown_start(_shown_number(pidfd))
    if shown is None or process.start in (0, shown):
        return False
    shift = _shift()
    return (
        shift is not None and abs(shown - shift - process.start) > 1
    )  # a shift is rounded to whole ticks, and so is the start


def _shown_number(pidfd: int) -> str:
    """Its number in /proc, which may be mounted from another PID namespace; "0" or "-1" if it is not in there (pidfd_open(2))."""
    try:
        _, _, behind = _read(f"/proc/self/fdinfo/{pidfd}").partition(b"Pid:")
    except FileNotFoundError:
        return "0"
    return behind.split()[0].decode()


def _shown_start(number: str) -> int | None:
    """Its start in this time namespace; None if it has just ended, is hidden (`hidepid`), or is unknown."""
    try:
        text = _read(f"/proc/{number}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    start = int(text[text.rindex(b")") :].split()[20])
    return start if start < _LARGEST_TICKS else None


def _shift() -> int | None:
    """The ticks by which this time namespace shifts the starts that it shows (time_namespaces(7)); None: unknown."""
    try:
        if os.stat("/proc/self/ns/time").st_ino != os.stat("/proc/self/ns/time_for_children").st_ino:
            return None  # the file has the children's namespace's
        _, _, behind = _read("/proc/self/timens_offsets").partition(b"boottime")
    except FileNotFoundError:
        return 0  # the kernel has no time namespaces
    seconds, nanoseconds = map(int, behind.split()[:2])
    return seconds * _TICKS + nanoseconds * _TICKS // 1_000_000_000


def _read(path: str) -> bytes:
    """Read a small file of /proc, in half the time of pathlib: a waiter reads it again and again."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _PAGE)
    finally:
        os.close(fd)


def group_lives(group: int) -> bool:
    """Whether a process group has a member that has not ended. A zombie has ended."""
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
    """Ask for `signum` when the thread that started this process ends; at once if `parent` has ended already.

    PR_SET_PDEATHSIG (prctl(2)). A few system calls only, so it is safe in a forked child.
    """
    libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the prctl(2)
        os.kill(os.getpid(), signum)


def describe_exit(returncode: int | None, *, core_dumped: bool = False) -> str:
    """How a process ended, in a shell's words: "exit status 3", "killed by SIGSEGV (core dumped)". None: "running"."""
    if returncode is None:
        return "running"
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"killed by {name_of(-returncode)}" + (" (core dumped)" if core_dumped else "")
