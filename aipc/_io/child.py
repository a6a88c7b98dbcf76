"""Child processes: starting one, awaiting its exit, ending it.

The exit is awaited by a pidfd's readiness (pidfd_open(2)) and taken by waitid(2) on that pidfd, on every loop alike: no
thread, no child watcher, no SIGCHLD handler, and nobody else's child is ever waited for.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

import anyio

from aipc._sys import signal_mask
from aipc.exceptions import AddressError

from .errors import named
from .handle import FileHandle

Command = str | Sequence[str | bytes | os.PathLike[str]]
"""A list of words, or a string that is split as a shell would."""
PathName = str | bytes | os.PathLike[str]

GRACE = 5.0
"""Seconds that a child has to end by itself, and again after SIGTERM."""
_UNKNOWN = 0  # what subprocess reports, too, when somebody else took the status


class Child:
    """A process that this one started. Its exit status is taken as soon as anybody asks, so that no zombie stays."""

    __slots__ = ("_pidfd", "_process")

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process = process
        self._pidfd: FileHandle | None = None
        try:
            self._pidfd = FileHandle(os.pidfd_open(process.pid), f"{name} (process {process.pid})", spins=False)
        except ProcessLookupError:
            process.returncode = _UNKNOWN  # SIGCHLD is ignored, or somebody waits for any child: it is gone already
        except OSError as error:
            process.kill()
            process.wait()
            raise named(error.errno or 0, name) from None

    @property
    def pid(self) -> int:
        """Its number, which stays its own until its status is taken."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; then its exit status, or the negative number of the signal that ended it.

        0 if nobody can tell, because SIGCHLD is ignored or another part of the program took the status (as in subprocess).
        """
        try:
            return self._reap()
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._handle.explain(error) from error

    async def wait(self) -> int:
        """Wait until it has ended: its `returncode`. Cancelled: nothing happened."""
        if self._process.returncode is not None:
            return int(self._process.returncode)
        return await self._handle.readable.attempt(self._reap)

    def send_signal(self, signum: int) -> None:
        """Send a signal; nothing if it has ended. Through the pidfd: never to another process with its number.

        AccessDenied if it runs as another user by now.
        """
        if self.returncode is not None:
            return
        try:
            signal.pidfd_send_signal(self._handle.fd, signum)
        except ProcessLookupError:
            pass  # it ended in between
        except OSError as error:
            raise self._handle.explain(error) from error

    @property
    def _handle(self) -> FileHandle:
        assert self._pidfd is not None  # without one, there is a status
        return self._pidfd

    def _reap(self) -> int:
        """Its status. BlockingIOError while it runs."""
        if self._process.returncode is None:
            self._handle.check()
            try:
                ended = os.waitid(os.P_PIDFD, self._handle.fd, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                status = _UNKNOWN
            else:
                if ended is None:
                    raise BlockingIOError
                status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            self._process.returncode = status
            self._handle.close()
        return int(self._process.returncode)


def start(
    command: Command,
    name: str,
    *,
    shell: bool = False,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    cwd: PathName | None = None,
    env: Mapping[str, str] | None = None,
) -> Child:
    """Start a process that inherits these three descriptors, and no others.

    A plain call of a millisecond or so: the child is made by vfork(2), during which Python lets no other thread run, so that
    a worker thread would gain nothing. ObjectMissing if there is no such program or directory, AccessDenied if it may not be
    run, AddressError if the command is empty or can't be split.
    """
    chosen = _words(command, name, shell=shell)
    try:
        process = subprocess.Popen(
            chosen,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            bufsize=0,
            preexec_fn=signal_mask.clean_child if signal_mask.blocks_here() else None,  # noqa: PLW1509 - it only makes system calls
        )
    except OSError as error:
        raise _explained(error, name, chosen) from None
    except ValueError as error:  # a zero byte
        raise AddressError(f"{name}: {error}") from None
    return Child(process, name)


def _words(command: Command, name: str, *, shell: bool) -> Command:
    if isinstance(command, str):
        try:
            chosen: Command = command if shell else shlex.split(command)
        except ValueError as error:
            raise AddressError(f"{name}: {error}") from None
    elif shell:
        raise AddressError(f"{name}: a shell takes one string, and this command is a list")
    else:
        chosen = list(command)
    if not chosen:
        raise AddressError(f"{name}: the command is empty; it needs a program's name, as in ['sort', '-u'] or 'sort -u'")
    return chosen


def _explained(error: OSError, name: str, command: Command) -> OSError:
    """What kept the program from being run (execve(2)). The error names the program, or the working directory."""
    place = os.fsdecode(error.filename or command[0])
    if error.errno == errno.ENOENT:
        why = "there is no such file or directory" if "/" in place else "no directory of PATH has that program"
    elif error.errno == errno.EACCES:
        why = "permission denied; a program must be an executable file"
    elif error.errno == errno.ENOEXEC:
        why = "neither a program nor a script that begins with #!"
    else:
        why = os.strerror(error.errno or 0)
    return named(error.errno or 0, name, f"{place}: {why}")


def called(command: Command) -> str:
    """The command as a person would type it, for errors; its beginning if it is long."""
    text = command if isinstance(command, str) else shlex.join(os.fsdecode(word) for word in command)
    return text if len(text) <= 60 else text[:57] + "..."


def signal_all(children: Sequence[Child], signum: int) -> None:
    """Send a signal to each: to the last of a pipeline first, so that none takes the death of the one before for the end of input."""
    for child in reversed(children):
        child.send_signal(signum)


async def end(children: Sequence[Child], let_go: Callable[[], None], grace: float, *, gently: bool) -> None:
    """End children, and take their statuses, whatever it takes: none is left when this returns or raises.

    `let_go` closes our ends of their pipes. `gently`: that first, and `grace` seconds to end by themselves. Else, and then:
    SIGTERM, `grace` seconds, SIGKILL. Cancelled while they end by themselves: SIGTERM at once; later cancellations wait
    (a second `Task.cancel` of asyncio, which nothing can hold back, means SIGKILL at once).
    """
    steps = (None, signal.SIGTERM, signal.SIGKILL)
    step = 0 if gently else 1
    cancelled: BaseException | None = None
    while True:
        signum = steps[step]
        if signum is not None:
            signal_all(children, signum)
        let_go()
        patience = grace if step < 2 else float("inf")
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + patience, shield=step > 0):
                for child in children:
                    await child.wait()
        except anyio.get_cancelled_exc_class() as error:
            cancelled = error
        if all(child.returncode is not None for child in children):
            break
        step = min(step + 1, 2)
    if cancelled is not None:
        raise cancelled
