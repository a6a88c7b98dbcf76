"""What an error of opening says beside what happened: what would make the object, or what to do about one that is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from aipc.exceptions import ObjectExists, ObjectMissing

MAKE = "create=1 makes it"
LEFT = "exclusive=1 takes no object of others; create=1 alone opens what a crashed run left, and `aipc remove` removes it"
_LISTENED = frozenset({"unix", "unix+seqpacket", "shm"})
_PLAIN: dict[type[OSError], str] = {ObjectMissing: os.strerror(errno.ENOENT), ObjectExists: os.strerror(errno.EEXIST)}


def hinted(error: OSError, hint: str) -> OSError:
    """The same error, with a hint behind its text; as it is, if it says more than the kernel already."""
    text = str(error.strerror)
    plain = _PLAIN.get(type(error), "")
    return type(error)(error.errno, f"{text}; {hint}") if hint and text.endswith(plain or text) else error


def about(error: OSError, scheme: str, chosen: Mapping[str, Any], *, connects: bool, creates: bool | None) -> OSError:
    """`error` of opening, with a hint.

    `connects`: by open_channel; `creates`: whether it would have made the object, None if there is no such option.
    """
    hint = ""
    if isinstance(error, ObjectExists):
        hint = LEFT if chosen.get("exclusive") else ""
    elif creates is False and not chosen.get("exclusive"):
        hint = MAKE
    elif connects and scheme in _LISTENED:
        hint = "aipc.listen makes it, in a program that starts first"
    elif connects and scheme == "unix+dgram":
        hint = "the peer makes it, with bind, and has to start first"
    elif creates or not connects:
        hint = "its directory must exist"
    return hinted(error, hint)


_OTHER_NAMES: Mapping[str, str] = {
    "ipc": "use unix: for a socket file",
    "unix+stream": "use unix:",
    "unixgram": "use unix+dgram:",
    "unixpacket": "use unix+seqpacket:",
    "inproc": "aipc.channel_pair() connects two tasks of one process",
    "tcp4": "use tcp:",
    "tcp6": "use tcp:",
    "ssl": "use tls:",
    "tcps": "use tls:",
    "http": "use tcp: with framing=none; aipc does not speak HTTP",
    "https": "use tls: with framing=none; aipc does not speak HTTP",
    "pipe": "use fifo: for a pipe with a name, aipc.pipe() for one without",
    "file": "use fifo: or flock:; a plain file is no channel",
    "mq": "use posix-mq: or sysv-mq:",
    "mqueue": "use posix-mq:",
    "sem": "use posix-sem: or sysv-sem:",
    "semaphore": "use posix-sem: or sysv-sem:",
    "lock": "use flock:, fcntl:, posix-sem: or sysv-sem:",
    "lockf": "use fcntl:",
    "sqlite": "use jobs:",
    "localhost": "use tcp://localhost:PORT",
}
"""Schemes of other libraries, and words that stand before a colon by mistake."""


def meant_scheme(scheme: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown scheme, behind a semicolon; empty if nothing resembles it."""
    if scheme in _OTHER_NAMES:
        return f"; {_OTHER_NAMES[scheme]}"
    close = get_close_matches(scheme, known, n=1)
    return f"; is {close[0]}: meant?" if close else ""
