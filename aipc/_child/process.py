"""Child processes: starting one, awaiting its exit, signalling it.

A pidfd becomes readable when the child exits (pidfd_open(2)), and waitid(2) on the pidfd takes the status, on every loop alike.
So there is no thread, no child watcher and no SIGCHLD handler, and another part's child is never waited for.
"""

from __future__ import annotations

import errno
import os
import resource
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aipc._io.errors import os_error
from aipc._io.handle import FileHandle
from aipc._sys import processes
from aipc._sys.signals import mask as signal_mask
from aipc.exceptions import AddressError

Command = str | Sequence[str | bytes | os.PathLike[str]]
"""A list of words, or a string that is split as a shell would split it."""
PathName = str | bytes | os.PathLike[str]

_WHOLE_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP (pidfd_send_signal(2), Linux 6.9)
_UNKNOWN = 0  # as subprocess reports if other code took the status


class Child:
    """A process that this one started. Its exit status is taken as soon as it is asked for, so that no zombie stays.

    leads       whether it leads a process group, which then gets the signals
    usage       resources used by it and the children that it reaped (getrusage(2)); None while it runs, or if unknown
    forced      whether it was sent SIGKILL to end it
    """

    __slots__ = ("_dumped", "_name", "_pidfd", "_process", "forced", "leads", "usage")

    def __init__(self, process: subprocess.Popen[bytes], name: str, *, leads: bool = False) -> None:
        self._process = process
        self._pidfd: FileHandle | None = None
        self._name = f"{name} (process {process.pid})"
        self._dumped = False
        self.leads: bool = leads
        self.usage: resource.struct_rusage | None = None
        self.forced: bool = False
        try:
            self._pidfd = FileHandle(os.pidfd_open(process.pid), self._name, spins=False)
        except ProcessLookupError:
            process.returncode = _UNKNOWN  # SIGCHLD is ignored, or other code waits for any child: already reaped
            self.leads = False
        except OSError as error:
            process.kill()
            process.wait()
            raise os_error(error.errno or 0, name) from None

    @property
    def pid(self) -> int:
        """The process number; no other process gets it until the status is taken."""
        return self._process.pid

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy: the process is then another process's child."""
        return self._pidfd is not None and self._pidfd.forked

    @property
    def returncode(self) -> int | None:
        """None while it runs; then its exit status, or the negative number of the signal that ended it.

        0 if the status is unknown, because SIGCHLD is ignored or another part of the program took it (as in subprocess).
        """
        try:
            return self._reap()
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._handle.explain(error) from error

    @property
    def outcome(self) -> str:
        """How it ended, in words: "exit status 3", "killed by SIGSEGV (core dumped)"; "running"."""
        return processes.describe_exit(self.returncode, core_dumped=self._dumped)

    async def wait(self) -> int:
        """Wait until the process has ended; return its `returncode`. Cancelled: nothing happened."""
        if self._process.returncode is not None:
            return int(self._process.returncode)
        return await self._handle.readable.attempt(self._reap)

    def send_signal(self, signum: int, *, tree: bool = False) -> None:
        """Send a signal through the pidfd, so never to another process with the same number. Nothing if it has ended.

        `tree`: send it to the process group, if the child leads one and the group has members. AccessDenied if the process now
        runs as another user.
        """
        ended = self.returncode is not None
        try:
            if tree and self.leads:
                self._signal_group(signum)
            elif not ended:
                signal.pidfd_send_signal(self._handle.fd, signum)
        except ProcessLookupError:
            pass  # it ended in between
        except OSError as error:
            raise self._handle.explain(error) from error

    def _signal_group(self, signum: int) -> None:
        if self._handle.closed:
            return  # the group was already empty
        try:
            signal.pidfd_send_signal(self._handle.fd, signum, None, _WHOLE_GROUP)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.killpg(self.pid, signum)

    @property
    def leaves_others(self) -> bool:
        """Whether it has ended while processes of its group still run."""
        return self.leads and self.returncode is not None and not self._handle.closed and processes.group_lives(self.pid)

    def let_go(self) -> None:
        """Forget the process group: it has ended, too, or must be left alone."""
        if self._pidfd is not None and self._process.returncode is not None:
            self._pidfd.close()

    @property
    def _handle(self) -> FileHandle:
        assert self._pidfd is not None  # without a pidfd there is a status
        return self._pidfd

    def _reap(self) -> int:
        """Take and return the status. BlockingIOError while it runs."""
        if self._process.returncode is None:
            self._handle.check()
            try:
                ended = os.waitid(os.P_PIDFD, self._handle.fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    raise BlockingIOError
                _, status, self.usage = os.wait4(self.pid, 0)  # a zombie keeps its number
            except ChildProcessError:
                self._process.returncode = _UNKNOWN
            else:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._dumped = os.WCOREDUMP(status)
            if not self.leads:
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
    pass_fds: Mapping[int, int] | None = None,
    process_group: int | None = None,
    new_session: bool = False,
    dies_with_parent: bool = False,
) -> Child:
    """Start a process that inherits these three descriptors and `pass_fds`, and no others.

    `pass_fds` are numbers in the child, each with the descriptor of this process that it has there.

    A plain call of a millisecond or so: the child is made by vfork(2), during which Python lets no other thread run, so that
    a worker thread would gain nothing. ObjectMissing if there is no such program or directory, AccessDenied if it may not be
    run, AddressError if the command is empty or can't be split.

    `process_group`: 0 for a group of its own, otherwise the group to join (setpgid(2)). `new_session`: a session, and so a group,
    of its own (setsid(2)). `dies_with_parent`: SIGKILL when the thread or process that starts it ends (PR_SET_PDEATHSIG).

    ObjectMissing: there is no such program or directory. AccessDenied: the program may not be run. AddressError: the command is
    empty or cannot be split.
    """
    chosen = _words(command, name, shell=shell)
    inherited = pass_fds or {}
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
            pass_fds=tuple(inherited),
            process_group=None if new_session else process_group,
            start_new_session=new_session,
            preexec_fn=_preparation(dies_with_parent, inherited),  # noqa: PLW1509 - it only makes system calls
        )
    except OSError as error:
        raise _explained(error, name, chosen) from None
    except ValueError as error:  # a zero byte
        raise AddressError(f"{name}: {error}") from None
    return Child(process, name, leads=new_session or process_group == 0)


def _preparation(dies_with_parent: bool, inherited: Mapping[int, int]) -> Callable[[], None] | None:
    """What the child does between fork(2) and execve(2), if anything: without it, the faster vfork(2) will do."""
    moved = [(ours, theirs) for theirs, ours in inherited.items() if theirs != ours]
    steps: list[Callable[[], object]] = [partial(os.dup2, *pair) for pair in moved]
    if dies_with_parent:
        steps.append(partial(processes.die_with, os.getpid()))
    if not steps:
        return signal_mask.clean_child if signal_mask.blocks_here() else None

    def prepare() -> None:
        signal_mask.clean_child()
        for step in steps:
            step()

    return prepare


def _words(command: Command, name: str, *, shell: bool) -> Command:
    if isinstance(command, str):
        try:
            chosen: Command = command if shell else shlex.split(command)
            if not shell and "|" in shlex.split(command, posix=False):
                raise AddressError(
                    f"{name}: '|' means a pipe to a shell only: shell=True runs one, aipc.pipeline('ls', 'wc') does without; "
                    "as a word of its own, it stands in quotes"
                )
        except AddressError:
            raise
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
    """Explain why the program could not be run (execve(2)). The error names the program, or the working directory."""
    place = os.fsdecode(error.filename or command[0])
    if error.errno == errno.ENOENT:
        why = "there is no such file or directory" if "/" in place else "no directory of PATH has that program"
    elif error.errno == errno.EACCES:
        why = "permission denied; a program must be an executable file"
    elif error.errno == errno.ENOEXEC:
        why = "neither a program nor a script that begins with #!"
    else:
        why = os.strerror(error.errno or 0)
    return os_error(error.errno or 0, name, f"{place}: {why}")


def called(command: Command) -> str:
    """The command as a person would type it, for error texts; shortened if it is long."""
    text = command if isinstance(command, str) else shlex.join(os.fsdecode(word) for word in command)
    return text if len(text) <= 60 else text[:57] + "..."
