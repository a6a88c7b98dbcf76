"""`aipc tour`: its options."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from aipc._extras import missing


class Loop(StrEnum):
    """The event loop to run on."""

    asyncio = "asyncio"
    uvloop = "uvloop"
    trio = "trio"


def tour(
    loop: Annotated[Loop, typer.Option(help="The event loop, in both processes.")] = Loop.asyncio,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this mechanism; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run every mechanism between two processes.

    Over each channel go the standard library's files, and then messages there and back. For each lock two processes compete.
    """
    from rich.console import Console

    from .tours import tour as touring

    unknown = [name for name in only or [] if name not in touring.NAMES]
    if unknown:
        raise typer.BadParameter(
            f"no mechanism {', '.join(unknown)}; there are {', '.join(touring.NAMES)}", param_hint="--only"
        )
    try:
        rows = touring.run(loop.value, only or touring.NAMES, Console(stderr=True))
    except ModuleNotFoundError as error:
        raise typer.BadParameter(str(missing(error.name)), param_hint="--loop") from None
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        touring.show(rows)
    raise typer.Exit(0 if all(row.good for row in rows) else 1)
