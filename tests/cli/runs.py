"""Runs the command in processes of its own, forked from the tests' template: an interpreter's start would cost ten times as much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import peers

_CODE = "import os; os.dup2(1, 2); from aipc.cli import main; main()"


@contextmanager
def started(*arguments: str) -> Iterator[peers.Peer]:
    """The command, running; its errors are on its output, too."""
    with peers.python(_CODE, *arguments) as running:
        yield running


def run(*arguments: str, text: str = "") -> tuple[int, str]:
    """The command's status, and what it printed."""
    with started(*arguments) as running:
        printed, _ = running.communicate(text)
        return running.wait(), printed


def wait_listening(path: Path) -> None:
    """Wait until a socket listens at that path: the flag of accepting sockets in /proc/net/unix."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines():
            if line.endswith(f" {path}") and line.split()[3] == "00010000":
                return
    raise TimeoutError(path)
