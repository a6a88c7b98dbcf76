"""Starting one program: its process group, its environment, the pipes of its output."""

from __future__ import annotations

import os
import signal
import sys
from typing import Literal, NamedTuple

import anyio

from aipc._child.pipes import ChildPipes
from aipc._child.process import Child, start
from aipc._child.termination import terminate
from aipc._io.handle import FileHandle
from aipc.transports.pipes.pipe import PipeChannel
from aipc.wire.framing import framing

from .program import Program

_MANAGERS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""Variables by which systemd addresses this process, and not its programs."""
Stream = Literal["stdout", "stderr"]


class Started(NamedTuple):
    """A running program, and the channels from its stdout and stderr, if those are read."""

    child: Child
    streams: dict[Stream, PipeChannel]


def launch(program: Program, notify_socket: str | None, *, piped: bool) -> Started:
    """Start the program in a process group of its own. It dies with this process. OSError if it cannot be started."""
    name = f"program {program.name}"
    env = {key: value for key, value in (os.environ if program.env is None else program.env).items() if key not in _MANAGERS}
    if notify_socket is not None:
        env["NOTIFY_SOCKET"] = notify_socket
    stdout = stderr = None
    handles: dict[Stream, FileHandle] = {}
    with ChildPipes(name) as pipes:
        if piped:
            stdout, handles["stdout"] = pipes.from_child()
            stderr, handles["stderr"] = pipes.from_child()
        child = start(
            program.command,
            name,
            shell=program.shell,
            stdout=stdout,
            stderr=stderr,
            cwd=program.cwd,
            env=env,
            process_group=0,
            dies_with_parent=True,
        )
    chunks = framing("none", sys.maxsize)
    return Started(child, {stream: PipeChannel(handle, chunks, sends=False) for stream, handle in handles.items()})


async def end(child: Child, program: Program) -> None:
    """End the program and its process group, and reap it; see `Program`. Cancelled: the same, from SIGTERM on, before it raises."""
    try:
        if program.stop_signal != signal.SIGTERM and child.returncode is None:
            child.send_signal(program.stop_signal, tree=True)
            with anyio.move_on_after(program.grace):
                await child.wait()
    finally:
        await terminate([child], lambda: None, program.grace, gently=False)
