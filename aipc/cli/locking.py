"""`aipc lock`: a command under a lock, as flock(1) does for one kind of lock."""

from __future__ import annotations

import signal
import subprocess
from typing import Annotated

import anyio
import anyio.to_thread
import typer

import aipc
from aipc._io.loop import backend

from . import ending

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def lock(
    url: Annotated[str, typer.Argument(metavar="URL", help="The lock; its options in the query.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run while the lock is held.")],
    nonblock: Annotated[bool, typer.Option("--nonblock", "-n", help="Fail if the lock is held.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", "-w", help="Seconds to wait for the lock.")] = None,
    conflict: Annotated[int, typer.Option("--conflict-exit-code", "-E", help="The status without the lock.")] = 1,
) -> None:
    """Run a command while a lock is held.

    Ends with the command's status: 128 and the signal's number for one that was killed, 126 for one that may not be run, 127
    for one that does not exist. SIGTERM and SIGHUP go on to the command. Ctrl-C reaches it from the terminal; if that kills it, this
    ends by SIGINT too, so that a shell's loop ends.
    """
    returncode = backend.run("asyncio", _lock, url, command, 0.0 if nonblock else timeout, conflict)
    if returncode == -signal.SIGINT:
        ending.die_of(signal.SIGINT)
    raise typer.Exit(returncode if returncode >= 0 else 128 - returncode)


async def _lock(url: str, command: list[str], timeout: float | None, conflict: int) -> int:
    async with aipc.open_lock(url) as held:
        try:
            if timeout == 0:
                held.acquire_nowait()
            else:
                with anyio.fail_after(timeout):
                    await held.acquire()
        except (anyio.WouldBlock, TimeoutError):
            return ending.said(f"{url}: held by {_holder(held)}", conflict)
        try:
            return await _run(command)
        finally:
            held.release()


def _holder(held: aipc.Lock) -> str:
    pid = held.holder()
    return "another process" if pid is None else f"process {pid}"


async def _run(command: list[str]) -> int:
    async with aipc.open_signal_receiver(*_FORWARDED, signal.SIGINT) as received:
        try:
            child = subprocess.Popen(command)  # noqa: ASYNC220 - vfork(2) stops every thread anyway
        except (FileNotFoundError, PermissionError) as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return ending.said(ending.text_of(error), status)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_forward, received, child)
            returncode = await anyio.to_thread.run_sync(child.wait)
            tasks.cancel_scope.cancel()
    return returncode


async def _forward(received: aipc.SignalReceiver, child: subprocess.Popen[bytes]) -> None:
    async for info in received:
        if info.signum in _FORWARDED:
            child.send_signal(info.signum)
