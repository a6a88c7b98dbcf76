"""What everything that has a child process tells of it, and the signals that it sends: `ProcessChannel`, `Worker`."""

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

        0 if nobody can tell, because SIGCHLD is ignored or another part of the program took the status (as in subprocess).
        """
        return self.child.returncode

    @property
    def outcome(self) -> str:
        """How the child ended, in words, as a shell would say it: "exit status 3", "killed by SIGSEGV (core dumped)"; "running"."""
        return self.child.outcome

    @property
    def usage(self) -> resource.struct_rusage | None:
        """What the child took, and those of its own children that it waited for: seconds of processor time, memory (getrusage(2)).

        None until its `returncode` is known, and if nobody can tell.
        """
        return self.child.usage

    @property
    def forced(self) -> bool:
        """Whether the child, or its process group, did not end after SIGTERM, and was sent SIGKILL for that."""
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
