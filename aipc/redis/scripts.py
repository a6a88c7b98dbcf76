"""The scripts that run in the server, each in one step. What several need stands in `scripts/common*.lua`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from itertools import zip_longest

import hiredis

_JOBS = ("take", "done", "give_back", "mine", "leave", "renew_jobs", "tend", "revive", "stat")
_LOCKS = ("acquire", "release", "renew", "look")
_CALLS = ("pull", "beat", "end")
_PARTS = {
    **dict.fromkeys(_JOBS, ("common", "common_jobs")),
    **dict.fromkeys(_LOCKS, ("common", "common_locks")),
    **dict.fromkeys(_CALLS, ("common", "common_calls")),
    "send": ("common", "common_jobs", "common_sent"),
    "push": ("common", "common_calls", "common_sent"),
    "remove": ("common",),
    "pass_on": ("common",),
    "publish": (),
}
"""Each script, and the files before its own."""


@cache
def source(name: str) -> bytes:
    """A script's text."""
    files = resources.files(__package__) / "scripts"
    return b"".join((files / f"{part}.lua").read_bytes() for part in (*_PARTS[name], name))


@cache
def _sha(name: str) -> str:
    return hashlib.sha1(source(name), usedforsecurity=False).hexdigest()


def asking() -> bytes:
    """The command that gives which scripts a server knows."""
    return pack("SCRIPT", "EXISTS", *map(_sha, _PARTS))


def loading(known: Iterable[int] = ()) -> list[bytes]:
    """The commands that make all scripts known to a server; but those that it knows, as it has told."""
    return [pack("SCRIPT", "LOAD", source(name)) for name, is_known in zip_longest(_PARTS, known) if not is_known]


def pack(*words: str | bytes | int | float) -> bytes:
    """A command as it travels."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub means a tuple of any length
    return packed


def call(name: str, keys: tuple[str, ...], *arguments: str | bytes | int) -> bytes:
    """The command that runs a script."""
    return pack("EVALSHA", _sha(name), len(keys), *keys, *arguments)
