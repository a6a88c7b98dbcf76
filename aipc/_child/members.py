"""The common members of objects with a child process: `ProcessChannel`, `Worker`."""

from __future__ import annotations

import resource
import signal
from abc import ABC, abstractmethod

from .process import Child


class ChildMembers(ABC):
    """The members of an object with a `child`."""

    __slots__ = ()
    child: Child

    @property
    def pid(self) -> int:
        """The child's process number."""
        return self.child.pid

    @property
    def returncode(self) -> int | None:
        """None while the child runs; then its exit status, or the negative number of the signal that ended it.

        0 if the status is unknown, because SIGCHLD is ignored or another part of the program took it (as in subprocess).
        """
        return self.child.returncode

    @property
    def outcome(self) -> str:
        """How the child ended, in a shell's words: "exit status 3", "killed by SIGSEGV (core dumped)"; "running"."""
        return self.child.outcome

    @property
    def usage(self) -> resource.struct_rusage | None:
        """Resources used by the child and its own reaped children: seconds of processor time, memory (getrusage(2)).

        None until the `returncode` is known, or if the usage is unknown.
        """
        return self.child.usage

    @property
    def forced(self) -> bool:
        """Whether the child, or its process group, did not end after SIGTERM, and was sent SIGKILL."""
        return self.child.forced

    @abstractmethod
    def send_signal(self, signum: int) -> None:
        """Send the child a signal; nothing if it has ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)
