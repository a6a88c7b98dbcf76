"""`aipc list` and `aipc remove`: the objects that outlive their processes."""

from __future__ import annotations

import json
import os
import pwd
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

import aipc
from aipc._address import parse
from aipc._objects import KINDS
from aipc._sys.proc.file_users import Users, users_of
from aipc._sys.proc.unix_sockets import bound_sockets
from aipc.exceptions import AddressError, AipcError, ObjectMissing

from .. import ending, table

_FILES = {"shm": "unix", "unix+seqpacket": "unix", "unix+dgram": "unix"}
"""Schemes whose object is another kind's: a socket file."""
_LOCK_FILES = ("flock", "fcntl")
_EVERY = 2.0


class Found(NamedTuple):
    """An object, what to call it, and the processes that have it open, mapped or attached."""

    name: str
    object: aipc.IpcObject
    holders: tuple[int, ...]

    @property
    def forms(self) -> set[str]:
        """Whatever `remove` knows it by."""
        found = self.object
        names = {self.name, f"{found.kind}#{found.id}"}
        return names if found.name == "private" else names | {f"{found.kind}:{found.name}"}


def list_(
    directories: Annotated[
        list[Path] | None, typer.Argument(metavar="DIRECTORY", help="Where to look for FIFOs and stale socket files.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Print it again every 2 seconds.")] = False,
) -> None:
    """List System V and POSIX objects, and sockets."""
    while True:
        found = find(directories or [])
        if watch and table.width():
            print("\033[H\033[2J", end="")
        if as_json:
            print(json.dumps([_as_json(one) for one in found], indent=None if watch else 2), flush=True)
        else:
            table.show(("OBJECT", "ID", "OWNER", "MODE", "SIZE", "FILL", "HOLDERS"), [*map(_row, found)], right=("ID", "SIZE"))
        if not watch:
            return
        time.sleep(_EVERY)


def remove(
    objects: Annotated[list[str], typer.Argument(metavar="OBJECT", help="As `aipc list` prints it, or a URL.")] = [],  # noqa: B006
    stale: Annotated[bool, typer.Option("--stale", help="What certainly has no owner any more; OBJECT: directories.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also the socket file of a live process.")] = False,
) -> None:
    """Remove such objects.

    By the name that `aipc list` prints, by URL, or by kind and number: sysv-mq 42.
    """
    if not objects and not stale:
        raise typer.BadParameter("say which objects, or --stale")
    if len(objects) == 2 and objects[0] in KINDS:
        objects = [_form_of(*objects)]
    found = [*stale_objects([Path(name) for name in objects])] if stale else [_named(name) for name in objects]
    if not found:
        print("nothing to remove")
        return
    if not yes:
        users = [f"{one.name} (used by {' '.join(map(str, one.holders))})" if one.holders else one.name for one in found]
        ending.confirm(f"Remove {', '.join(users)}?")
    failures = 0
    for one in found:
        try:
            aipc.remove_object(one.object, force=force)
        except AipcError as error:
            failures = ending.said(ending.text_of(error), ending.status_of(error))
        else:
            print(f"removed {one.name}")
    raise typer.Exit(failures)


def find(directories: Sequence[Path]) -> list[Found]:
    """Every object, also the FIFOs and socket files in `directories`."""
    objects = aipc.list_objects(*directories)
    files = {id(one): file for one in objects if (file := _file_of(one)) is not None}
    users, bound = users_of(set(files.values())), bound_sockets()
    return [Found(_name(one), one, _holders(one, files.get(id(one)), users, bound)) for one in objects]


def _file_of(one: aipc.IpcObject) -> tuple[int, int] | None:
    path = {
        "posix-shm": f"/dev/shm{one.name}",  # noqa: S108 - only looked at
        "posix-sem": f"/dev/shm/sem.{one.name[1:]}",  # noqa: S108
        "posix-mq": f"/dev/mqueue{one.name}",
        "fifo": one.name,
    }.get(one.kind)
    with suppress(OSError):
        if path:
            status = os.stat(path)
            return status.st_dev, status.st_ino
    return None


def _name(one: aipc.IpcObject) -> str:
    if one.alias and not one.alias.endswith(":private"):
        return one.alias
    return f"{one.kind}#{one.id}" if one.name == "private" else f"{one.kind}:{one.name}"


def _holders(one: aipc.IpcObject, file: tuple[int, int] | None, users: Users, bound: dict[str, list[int]]) -> tuple[int, ...]:
    if one.kind == "unix":
        return tuple(sorted({pid for inode in bound.get(one.name, ()) for pid in users.sockets.get(inode, ())}))
    if one.kind == "sysv-shm" and one.id is not None:
        return tuple(users.segments.get(one.id, ()))
    return tuple(users.files.get(file, ())) if file else ()


def _fill(one: aipc.IpcObject) -> str:
    match one.kind:
        case "sysv-mq":
            return f"{table.counted(one.items or 0, 'message')}, {table.number_of_bytes(one.size)}"
        case "sysv-sem":
            return table.counted(one.items or 0, "semaphore")
        case "sysv-shm":
            return f"{one.users} attached{', dest' * one.removed}"
        case "unix":
            return table.counted(one.users, "socket") if one.users else "stale"
        case "posix-mq":
            return "" if one.size is None else table.number_of_bytes(one.size)
    return ""


def _row(one: Found) -> tuple[str, ...]:
    found = one.object
    size = found.size if found.kind.endswith("-shm") else None
    identifier = "" if found.id is None else str(found.id)
    pids = " ".join(map(str, one.holders[:4])) + (f" +{len(one.holders) - 4}" if len(one.holders) > 4 else "")
    return one.name, identifier, _user(found.uid), f"{found.mode:03o}", table.number_of_bytes(size), _fill(found), pids


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _as_json(one: Found) -> dict[str, object]:
    return {"object": one.name, **one.object._asdict(), "alias": one.object.alias, "holders": one.holders}


def _form_of(kind: str, identifier: str) -> str:
    """`sysv-mq 42` is the number, as in ipcrm(1); `sysv-mq 0x4d2` the key."""
    number = kind.startswith("sysv-") and identifier.isascii() and identifier.isdecimal()
    return f"{kind}#{identifier}" if number else f"{kind}:{identifier}"


def _named(name: str) -> Found:
    rows = find([Path(name.partition(":")[2]).parent] if name.startswith(("unix:/", "fifo:/")) else [])
    if named := [row for row in rows if name in row.forms]:
        return named[0]
    kind, path = _place(name)
    here = find([Path(path).parent]) if kind in ("unix", "fifo") and Path(path).parent.is_dir() else rows
    for row in here:
        if row.object.kind == kind and _is_at(row.object, path, name):
            return row
    if kind == "posix-mq":
        return _unlisted_queue(path)
    raise ObjectMissing(2, f"{name}: there is no such object")


def _unlisted_queue(name: str) -> Found:
    """A POSIX queue where /dev/mqueue, which lists them, is not mounted."""
    found = aipc.inspect(f"posix-mq:{name}")
    one = aipc.IpcObject("posix-mq", name, None, None, os.geteuid(), 0, None, None, None, ())
    return Found(f"posix-mq:{name}", one, tuple(user.pid for user in found.users))


def _place(name: str) -> tuple[str, str]:
    if "#" in name and name.partition("#")[0] in KINDS:
        raise ObjectMissing(2, f"{name}: there is no such object")
    address = parse(name)
    if address.scheme in _LOCK_FILES:
        raise AddressError(f"{name}: a lock's file stays: without it, two processes could hold the lock at once")
    kind = _FILES.get(address.scheme, address.scheme)
    if kind not in KINDS and kind not in ("event", "condition", "barrier", "rwlock"):
        raise AddressError(f"{name}: no kind of object is called {kind!r}; there are {', '.join(KINDS)}")
    return kind, os.path.abspath(address.path) if kind in ("unix", "fifo") else address.path


def _is_at(one: aipc.IpcObject, path: str, name: str) -> bool:
    if not one.kind.startswith("sysv-"):
        return one.name == path
    from aipc._sys.sysv.key import key_of

    address = parse(name)
    project = address.options.get("project")
    key = key_of(address, int(project) if project else None)
    return key is not None and key & 0xFFFFFFFF == one.key


def stale_objects(directories: Sequence[Path]) -> Iterator[Found]:
    """Socket files without a socket; private segments that nobody has attached, and whose creator and last user have ended."""
    for one in find(directories):
        found = one.object
        if (found.kind == "unix" and found.users == 0 and stat.S_ISSOCK(os.lstat(found.name).st_mode)) or (
            found.kind == "sysv-shm" and found.key == found.users == 0 and len(found.pids) == 2 and not _alive(found.pids)
        ):
            yield one


def _alive(pids: Sequence[int]) -> bool:
    return any(os.path.exists(f"/proc/{pid}") for pid in pids)
