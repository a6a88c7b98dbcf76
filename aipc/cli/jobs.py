"""`aipc jobs`: a queue in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote

import anyio
import typer

import aipc
from aipc._io.loop import backend

from . import table
from .ending import Commands, confirm
from .messages import AS_JSON, data_of

PATH = Annotated[str, typer.Argument(metavar="PATH", help="The queue's file, or its URL.")]
_SHOWN = 40
jobs: typer.Typer = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None)


@jobs.callback()
def root() -> None:
    """Show a job queue, and act on its dead jobs."""


@jobs.command("list", epilog="Example: aipc jobs list /tmp/aipc.jobs")
def list_(
    path: PATH, most: Annotated[int, typer.Option("-n", min=1, help="At most this many.")] = 100, as_json: AS_JSON = False
) -> None:
    """List the jobs, oldest first, and count them."""

    async def show(queue: aipc.JobChannel) -> None:
        status, found = queue.stat(), await queue.jobs(most)
        if as_json:
            rows = [{**job._asdict(), **data_of(job.data)} for job in found]
            print(json.dumps({"status": asdict(status), "jobs": rows}, indent=2, default=repr))
            return
        shown = [
            (str(job.id), job.state, str(job.type), str(job.priority), str(job.attempts), _short(job.data)) for job in found
        ]
        table.show(("ID", "STATE", "TYPE", "PRIORITY", "ATTEMPTS", "DATA"), shown, right=("ID", "TYPE", "PRIORITY", "ATTEMPTS"))
        print(", ".join(f"{number:,} {name}" for name, number in asdict(status).items()))

    _with(path, show)


@jobs.command(epilog="Example: aipc jobs retry /tmp/aipc.jobs")
def retry(path: PATH) -> None:
    """Make all dead jobs ready again."""

    async def revive(queue: aipc.JobChannel) -> None:
        print(f"{table.counted(await queue.revive(), 'job')} ready again")

    _with(path, revive)


@jobs.command(epilog="Example: aipc jobs purge --yes /tmp/aipc.jobs")
def purge(path: PATH, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Remove all dead jobs."""

    async def remove(queue: aipc.JobChannel) -> None:
        dead = queue.stat().dead
        if dead and not yes:
            confirm(f"Remove {table.counted(dead, 'dead job')}?")
        removed = 0
        try:
            while removed < dead:
                queue.receive_nowait(dead=True)
                removed += 1
        except anyio.WouldBlock:
            pass  # another process was faster
        print(f"removed {table.counted(removed, 'job')}")

    _with(path, remove)


def _short(data: bytes) -> str:
    text = " ".join(data[: 4 * _SHOWN].decode(errors="replace").split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _with(path: str, act: Callable[[aipc.JobChannel], Awaitable[None]]) -> None:
    async def opened() -> None:
        async with aipc.open_jobs(path if path.startswith("jobs:") else f"jobs:{quote(os.path.abspath(path))}") as queue:
            await act(queue)

    backend.run("asyncio", opened)
