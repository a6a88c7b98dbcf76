"""Children for the conformance suite: each hands its ends of the pipes to the test, so that the test has both sides."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aipc
from aipc.abc import Channel

_HAND_OVER = str(Path(__file__).parent / "peers" / "hand_over.py")


def exec_url(*command: str) -> str:
    """An `exec:` URL of that command."""
    return "exec:" + quote(shlex.join(command))


@asynccontextmanager
async def exec_pair(directory: Path) -> AsyncIterator[tuple[Channel, Channel]]:
    """An `exec:` channel, and one over its child's standard streams."""
    with socket.socket(socket.AF_UNIX) as listener:
        command = _command(listener, directory)
        async with aipc.open_channel(exec_url(*command)) as ours:
            reading, writing = _handed_over(listener)
            async with aipc.open_channel(f"fd:{reading},{writing}") as theirs:
                yield ours, theirs


@asynccontextmanager
async def popen_pair(directory: Path, mode: str) -> AsyncIterator[tuple[Channel, Channel]]:
    """A child to write to, or to read from, and its end of the pipe: the sending channel first."""
    with socket.socket(socket.AF_UNIX) as listener:
        command = _command(listener, directory)
        async with aipc.popen(command, mode, framing="u32") as ours:
            reading, writing = _handed_over(listener)
            kept, other = (reading, writing) if mode == "w" else (writing, reading)
            os.close(other)
            async with aipc.open_channel(f"fd:{kept}") as theirs:
                yield (ours, theirs) if mode == "w" else (theirs, ours)


def _command(listener: socket.socket, directory: Path) -> list[str]:
    path = directory / "hand-over"
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(30)
    return [sys.executable, "-I", "-S", _HAND_OVER, str(path)]


def _handed_over(listener: socket.socket) -> tuple[int, int]:
    connection, _ = listener.accept()
    with connection:
        _, (reading, writing), _, _ = socket.recv_fds(connection, 1, 2)
    for fd in (reading, writing):
        os.set_inheritable(fd, False)
    return reading, writing
