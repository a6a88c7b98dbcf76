"""`aipc list` and `aipc remove`: list the objects that outlive their processes, and remove one."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table

import aipc


def show(console: Console, directories: list[Path], *, as_json: bool) -> None:
    """Print every object, also the FIFOs and socket files in `directories`."""
    objects = aipc.list_objects(*directories)
    if as_json:
        print(json.dumps([found._asdict() for found in objects], indent=2))
        return
    name = Column("name", overflow="fold", min_width=12)
    table = Table("kind", name, "number", "owner", "mode", "bytes", "items", "users", "pids", box=box.SIMPLE)
    for found in objects:
        numbers = (found.size, found.items, found.users)
        table.add_row(
            found.kind,
            found.name,
            "" if found.id is None else str(found.id),
            str(found.uid),
            f"{found.mode:o}",
            *("" if number is None else f"{number:,}" for number in numbers[:2]),
            "" if found.users is None else f"{found.users:,}" + " dest" * found.removed,
            " ".join(map(str, found.pids)),
        )
    console.print(table)


def remove(kind: str, identifier: str, *, project: int | None, force: bool) -> None:
    """Remove one: decimal digits are a System V object's number, as in `ipcrm`; 0x..., or a path with `project`, its key."""
    number = kind.startswith("sysv-") and identifier.isascii() and identifier.isdecimal() and project is None
    aipc.remove_object(kind, int(identifier) if number else identifier, project=project, force=force)
