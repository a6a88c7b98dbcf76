"""`aipc inspect`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

import aipc
from aipc._inspect import inspected
from aipc._inspect.deadlock import deadlocks
from aipc._inspect.machine import Machine

from .. import table

_MOST = 20
"""Processes, and connections, that are shown of one object."""

_TIMES = ("last_send", "last_receive", "last_operation", "held_since")
_PIDS = ("last_sender", "last_receiver", "last_pid")


def inspect(
    urls: Annotated[list[str], typer.Argument(metavar="URL", help="The objects.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: an object, or a list of several.")] = False,
) -> None:
    """Show who holds an object, who waits, how full it is.

    Of several locks also whether processes wait for each other. Nothing is opened for use, taken or changed.
    """
    found = look(urls)
    if as_json:
        rows = [as_row(one) for one in found]
        print(json.dumps(rows[0] if len(rows) == 1 else rows, indent=2))
        return
    for number, one in enumerate(found):
        if len(found) > 1:
            print(f"{'' if not number else chr(10)}{one.url}")
        for line in lines(one):
            print(line)
    for circle in deadlocks(found):
        print("", *table.wrapped(circle), sep="\n")


def look(urls: list[str]) -> list[aipc.Inspection]:
    """Inspect them all, with one walk through /proc."""
    with closing(Machine()) as machine:
        return [inspected(url, machine) for url in urls]


def as_row(one: aipc.Inspection) -> dict[str, Any]:
    """For JSON: processes as objects."""
    row = asdict(one) | {name: [each._asdict() for each in getattr(one, name)] for name in ("holders", "waiters", "users")}
    ends = [{"server": each.server, "client": each.client} for each in one.connections]
    row["connections"] = [
        each._asdict() | {side: who and who._asdict() for side, who in pair.items()}
        for each, pair in zip(one.connections, ends, strict=True)
    ]
    return row


def lines(one: aipc.Inspection) -> Iterator[str]:
    """What a person wants to know first comes first."""
    for finding in one.findings:
        yield from table.wrapped(f"! {finding}")
    others = [process for process in one.users if process not in (*one.holders, *one.waiters)]
    for heading, processes in (("held by", one.holders), ("waited for by", one.waiters), ("open in", others)):
        for process in processes[:_MOST]:
            yield shortened(f"{heading:14} {process.pid} {process.command}")
        if len(processes) > _MOST:
            yield f"{heading:14} {len(processes) - _MOST} more"
    for connection in sorted(one.connections, key=lambda each: -each.server_unread - each.client_unread)[:_MOST]:
        yield _connection(connection)
    if len(one.connections) > _MOST:
        yield f"{'connection':14} {len(one.connections) - _MOST} more"
    for name, value in one.state.items():
        limit = f" of {one.limits[name]:,}" if name in one.limits else ""
        yield f"{name.replace('_', ' '):14} {_number(name, value)}{limit}"
    yield from table.wrapped(f"{'options':14} {', '.join(one.options)}", indent=15)


def _number(name: str, value: int) -> str:
    if name in _TIMES:
        ago = table.counted(max(0, int(time.time()) - value), "second")
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(value))}, {ago} ago"
    return str(value) if name in _PIDS else f"{value:,}"


def _connection(one: aipc.ConnectionInfo) -> str:
    server, client = (str(who.pid) if who else "elsewhere" for who in (one.server, one.client))
    unread = [
        f"{who} has not read {table.number_of_bytes(amount)}"
        for who, amount in ((server, one.server_unread), (client, one.client_unread))
        if amount
    ]
    return f"{'connection':14} {server} and {client}{': ' if unread else ''}{', '.join(unread)}"


def shortened(line: str) -> str:
    """Cut at the terminal's edge: a command line may be long. Whole without a terminal."""
    width = table.width()
    return line if width is None or len(line) <= width else line[: width - 1] + "…"
