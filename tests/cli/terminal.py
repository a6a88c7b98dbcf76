"""A terminal: tmux, with a server of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import peers

from .shell import PROMPT

ROWS = 60
_CAPTURE = ("capture-pane", "-p")
_BETWEEN = "~~ the same, without the terminal's line breaks ~~"


class Terminal:
    """A window in which `aipc` commands run, one after the other (`tests.cli.shell`)."""

    def __init__(self, socket: Path, columns: int) -> None:
        peers.require("tmux")
        self.busy = True
        self.wrapped = False
        """Whether a line of the last command is longer than a row."""
        self._server = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        here, shell = str(Path(__file__).parents[2]), f"{sys.executable} -m tests.cli.shell"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(ROWS), "-c", here, shell)

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux, and return what it prints."""
        return subprocess.run([*self._server, *arguments], check=True, capture_output=True, text=True, timeout=10).stdout

    def wait_ready(self) -> None:
        """Wait until it takes the next command."""
        self.tmux("wait-for", "ready")
        self.busy = False

    def type(self, line: str) -> None:
        """Type a line."""
        self.busy = True
        self.tmux("send-keys", "-l", line, ";", "send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, by its name in tmux."""
        self.tmux("send-keys", key)

    def ended(self) -> tuple[int, list[str]]:
        """Wait until the command has ended. Its status, and the rows that it has printed."""
        everything = (*_CAPTURE, "-S", "-")
        screens = self.tmux(
            "wait-for", "ready", ";", *everything, ";", "display-message", "-p", _BETWEEN, ";", *everything, "-J"
        )
        self.busy = False
        rows, lines = (screen.rstrip("\n").splitlines() for screen in screens.split(f"{_BETWEEN}\n"))
        self.wrapped = len(rows) != len(lines)
        shown, _, status = "\n".join(rows).rpartition(PROMPT)
        return int(status), shown.splitlines()

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run a command until it ends."""
        self.type(command)
        return self.ended()

    def rows(self) -> list[str]:
        """The screen."""
        return self.tmux(*_CAPTURE).rstrip("\n").splitlines()

    def wait_row(self, start: str) -> list[str]:
        """Wait until the screen has a row that starts so. The rows of the screen."""
        return looked_for(self.rows, lambda rows: any(row.startswith(start) for row in rows))


def looked_for(look: Callable[[], list[str]], good: Callable[[list[str]], object]) -> list[str]:
    """Look until what is found is good."""
    deadline = time.monotonic() + 20
    while not good(found := look()):
        assert time.monotonic() < deadline, found
    return found


@contextmanager
def terminal(socket: Path, columns: int) -> Iterator[Terminal]:
    """Open one, and end it with everything that runs in it."""
    opened = Terminal(socket, columns)
    try:
        opened.wait_ready()
        yield opened
    finally:
        opened.tmux("kill-server")
