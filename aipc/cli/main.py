"""The commands and their options; their work is in other files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aipc.exceptions import AipcError

from . import objects as listing
from . import tour as touring

app: typer.Typer = typer.Typer(no_args_is_help=True, add_completion=False, help="Interprocess communication, awaitable.")


class Loop(StrEnum):
    """The event loop to run on."""

    asyncio = "asyncio"
    uvloop = "uvloop"
    trio = "trio"


@app.callback()
def root() -> None:
    """Interprocess communication, awaitable."""


@app.command()
def tour(
    loop: Annotated[Loop, typer.Option(help="The event loop, in both processes.")] = Loop.asyncio,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this mechanism; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run every mechanism between two processes: send the standard library's files, time round trips, compete for locks."""
    unknown = [name for name in only or [] if name not in touring.NAMES]
    if unknown:
        raise typer.BadParameter(
            f"no mechanism {', '.join(unknown)}; there are {', '.join(touring.NAMES)}", param_hint="--only"
        )
    console = Console(stderr=as_json)
    try:
        rows = touring.run(loop.value, only or touring.NAMES, console)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"needs {error.name}: pip install 'aipc[{error.name}]'", param_hint="--loop") from None
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        console.print(touring.table(rows))
    raise typer.Exit(0 if all(row.good for row in rows) else 1)


class Codec(StrEnum):
    """How messages are written."""

    msgpack = "msgpack"
    json = "json"


@app.command()
def call(
    url: Annotated[str, typer.Argument(help="Where the service listens.")],
    method: Annotated[str, typer.Argument(help="The method's name.")],
    args: Annotated[list[str] | None, typer.Argument(help="JSON, or else text; name=value goes by name.")] = None,
    codec: Annotated[Codec, typer.Option(help="The service's codec.")] = Codec.msgpack,
    stream: Annotated[bool, typer.Option("--stream", help="Print the items of a stream as they come.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds until the call is given up.")] = None,
) -> None:
    """Call a method of an `aipc.rpc` service, and print the result as JSON."""
    from . import call as calling  # needs msgspec, which the other commands do not

    try:
        calling.run(url, method, args or [], codec=codec.value, stream=stream, timeout=timeout)
    except (AipcError, TimeoutError) as error:
        print(f"aipc: {str(error) or 'no answer in time'}", file=sys.stderr)
        raise typer.Exit(1) from None


@app.command("list")
def list_(
    directories: Annotated[list[Path] | None, typer.Argument(help="Where to look for FIFOs and stale socket files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List System V and POSIX objects, and socket files: objects that outlive their process."""
    try:
        listing.show(Console(), directories or [], as_json=as_json)
    except AipcError as error:
        raise typer.BadParameter(str(error), param_hint="DIRECTORIES") from None


@app.command()
def remove(
    kind: Annotated[str, typer.Argument(help="As `aipc list` calls it, such as sysv-mq.")],
    identifier: Annotated[str, typer.Argument(help="Its number or key, name or path.")],
    project: Annotated[int | None, typer.Option(help="System V: the path stands for a key, as in ftok(3).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also the socket file of a live process.")] = False,
) -> None:
    """Remove one object."""
    try:
        listing.remove(kind, identifier, project=project, force=force)
    except AipcError as error:
        raise typer.BadParameter(str(error), param_hint="KIND IDENTIFIER") from None
