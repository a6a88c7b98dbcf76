"""`aipc inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

import aipc


def inspect(
    url: Annotated[str, typer.Argument(metavar="URL", help="The object.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who holds an object, who waits, how full it is.

    Nothing is opened for use, taken or changed.
    """
    found = aipc.inspect(url)
    if as_json:
        processes = {name: [one._asdict() for one in getattr(found, name)] for name in ("holders", "waiters", "users")}
        print(json.dumps(asdict(found) | processes, indent=2))
        return
    for heading, processes_ in (("held by", found.holders), ("waited for by", found.waiters), ("open in", found.users)):
        for process in processes_:
            print(f"{heading:14} {process.pid} {process.command}")
    for name, value in found.state.items():
        limit = f" of {found.limits[name]:,}" if name in found.limits else ""
        print(f"{name.replace('_', ' '):14} {value:,}{limit}")
    print(f"{'options':14} {', '.join(found.options)}")
