"""What an error of opening says beside what happened: what would make the object, or what to do about one that is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
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
