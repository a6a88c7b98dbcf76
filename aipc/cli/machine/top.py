"""`aipc top`: all objects of the machine, or some, and what their users wait for, again and again."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Annotated
from urllib.parse import quote

import typer

import aipc
from aipc._inspect import SCHEMES, inspected
from aipc._inspect.deadlock import deadlocks
from aipc._inspect.machine import Machine
from aipc._sys.proc import file_locks
from aipc.exceptions import AipcError, ObjectMissing

from .. import ending, table
from . import inspecting, objects

_HEADINGS = ("OBJECT", "HELD BY", "AWAITED BY", "OPEN IN", "FILL")
_OWN = "/aipc-bells-"
"""The names of the waiters' table begin so."""
_SCHEMES = {b"FLOCK": "flock", b"OFDLCK": "fcntl", b"POSIX": "fcntl"}


def top(
    urls: Annotated[list[str] | None, typer.Argument(metavar="URL", help="Only these objects.")] = None,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.1, help="Seconds between two looks.")] = 2.0,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="So many looks; without a terminal, 1.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each look.")] = False,
) -> None:
    """Show all objects again and again: who holds them, who waits.

    Those with which something is probably wrong come first, then those that a process waits for. Without URL: System V and POSIX objects, sockets, and
    files that are locked.
    """
    terminal = sys.stdout.isatty() and not as_json
    looks = count or (None if terminal else 1)
    while looks is None or looks:
        found = sorted(_found(urls or []), key=_importance)
        if as_json:
            print(json.dumps([inspecting.as_row(one) for one in found]), flush=True)
        else:
            _show(found, clear=terminal and looks != 1)
        if looks is not None:
            looks -= 1
        if looks != 0:
            time.sleep(interval)


def _found(urls: Sequence[str]) -> Iterator[aipc.Inspection]:
    with closing(Machine()) as machine:
        for url in urls or _everything():
            try:
                yield inspected(url, machine)
            except ObjectMissing:
                if urls:
                    yield aipc.Inspection(url, findings=("there is no such object",))
            except (AipcError, OSError) as error:
                if urls:
                    raise
                said = ending.text_of(error).removeprefix(f"{url}: ")
                yield aipc.Inspection(url, findings=() if isinstance(error, aipc.AccessDenied) else (said,))


def _everything() -> Iterator[str]:
    for one in objects.find([]):
        if one.name.partition(":")[0] in SCHEMES:
            yield f"{one.name.partition(':')[0]}:{quote(one.name.partition(':')[2], safe='/@')}"
    locks = file_locks.locked_files()
    yield from sorted({f"{_SCHEMES[kind]}:{quote(path)}" for path, kind in locks if kind in _SCHEMES and _OWN not in path})


def _importance(one: aipc.Inspection) -> tuple[bool, int, str]:
    return not one.findings, -len(one.waiters), one.url


def _show(found: Sequence[aipc.Inspection], *, clear: bool) -> None:
    findings = [*deadlocks(found), *(f"{one.url}: {finding}" for one in found for finding in one.findings)]
    waiting = len({process.pid for one in found for process in one.waiters})
    processes = f"{waiting:,} waiting process{'' if waiting == 1 else 'es'}"
    first = f"{time.strftime('%H:%M:%S')}  {table.counted(len(found), 'object')}, {processes}"
    rows = [_row(one) for one in found]
    lines = [
        f"{first}, {table.counted(len(findings), 'finding')}",
        *(row for finding in findings for row in table.wrapped(f"! {finding}")),
        *table.lines(_HEADINGS, rows, (), table.width()),
    ]
    if clear:
        size = os.get_terminal_size()
        print("\033[H\033[2J" + "\n".join(fitting(lines, size.columns, size.lines)), end="", flush=True)
    else:
        print("\n".join(lines), flush=True)


def fitting(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """What fits on a screen, whole lines only; the last row says how many more there are. A long line takes several rows."""
    heights = [max(1, -(-len(line) // columns)) for line in lines]
    ends = [*accumulate(heights)]
    if ends[-1] <= rows:
        return list(lines)
    fits = sum(end < rows for end in ends)
    return [*lines[:fits], f"and {len(lines) - fits:,} lines more"[:columns]]


def _row(one: aipc.Inspection) -> tuple[str, ...]:
    return one.url, _numbers(one.holders), _numbers(one.waiters), _numbers(one.users), _fill(one)


def _numbers(processes: Sequence[aipc.ProcessInfo]) -> str:
    shown = " ".join(str(process.pid) for process in processes[:3])
    return f"{shown} +{len(processes) - 3}" if len(processes) > 3 else shown


def _fill(one: aipc.Inspection) -> str:
    state = one.state
    parts = [f"value {state['value']:,}"] if "value" in state else []
    if "messages" in state:
        limit = f" of {one.limits['messages']:,}" if "messages" in one.limits else ""
        parts.append(f"{state['messages']:,}{limit} message{'' if state['messages'] == 1 and not limit else 's'}")
    parts += [f"{state[name]:,} {name}" for name in ("ready", "leased", "dead", "pending", "unread") if state.get(name)]
    if one.connections:
        parts.append(table.counted(len(one.connections), "connection"))
    return ", ".join(parts)
