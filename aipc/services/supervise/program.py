"""What a supervisor is told about a program, and what it tells."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from aipc._child.process import Command, PathName
from aipc.exceptions import AddressError

POLICIES = ("always", "on-failure", "never")
State = Literal["waiting", "starting", "running", "pausing", "stopping", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program for `aipc.supervise`: how it is started, restarted and stopped. All times are in seconds.

    Args:
        name: Its name in texts and for the supervisor's calls; each program has another one.
        command: A list of words, or a string that is split as a shell would split it.
        restart: When it is restarted: "always"; "on-failure", if its exit status was not 0 or a signal killed it; "never".
        shell: Whether a shell runs the command, which is then one string.
        cwd: Its working directory; by default this process's.
        env: Its environment; by default this process's.
        notify: Whether it says when it is ready, by sd_notify(3): READY=1 to $NOTIFY_SOCKET. Otherwise it is ready at once.
        ready_within: The time for that. A program that is not ready by then has failed.
        stop_signal: The signal that stops it. If it is not SIGTERM, SIGTERM follows after `grace`.
        grace: The time that it has to end after that signal; then SIGKILL.
        backoff: The pause before the second restart. The first one is immediate; later pauses double.
        backoff_limit: The longest pause.
        healthy_after: A program that lived for so long resets the pause and the count of `max_restarts`.
        max_restarts: The number of restarts in a row after which the program is given up. By default there is no limit.

    AddressError for an empty name or command, an unknown `restart`, or an invalid number.
    """

    name: str
    command: Command
    restart: Literal["always", "on-failure", "never"] = "always"
    _: KW_ONLY
    shell: bool = False
    cwd: PathName | None = None
    env: Mapping[str, str] | None = None
    notify: bool = False
    ready_within: float = 90.0
    stop_signal: int = signal.SIGTERM
    grace: float = 5.0
    backoff: float = 0.1
    backoff_limit: float = 30.0
    healthy_after: float = 10.0
    max_restarts: int | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.command:
            raise AddressError(f"Program({self.name!r}, {self.command!r}): needs a name and a command")
        if self.restart not in POLICIES:
            raise AddressError(f"Program({self.name!r}, restart={self.restart!r}): must be one of {', '.join(POLICIES)}")
        for option in ("ready_within", "grace", "backoff", "backoff_limit", "healthy_after", "max_restarts"):
            value = getattr(self, option)
            if value is not None and not value >= 0:
                raise AddressError(f"Program({self.name!r}, {option}={value!r}): must be 0 or more")
        if self.stop_signal not in signal.valid_signals():
            raise AddressError(f"Program({self.name!r}, stop_signal={self.stop_signal!r}): is no signal")

    def restarts(self, *, succeeded: bool) -> bool:
        """Whether it is restarted after such an end."""
        return self.restart == "always" or (self.restart == "on-failure" and not succeeded)


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """A program at this moment.

    state       "waiting" (for an earlier program), "starting" (not ready yet), "running", "pausing" (before a restart), "stopping",
                "ended", or "failed": it failed and is not restarted
    pid         its process number; None if it does not run
    restarts    how often it was restarted because it had ended
    outcome     how it ended last, in words; "" if it never did
    text        the last line for people that it sent (STATUS= of sd_notify(3))
    """

    name: str
    state: State
    pid: int | None
    restarts: int
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class ProgramLine:
    """A line of a program's output, without its line feed; a part of one, if it is longer than 65,536 bytes."""

    program: str
    stream: Literal["stdout", "stderr"]
    text: bytes
