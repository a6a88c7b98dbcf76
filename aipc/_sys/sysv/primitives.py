"""The names of aipc's own primitives, which are System V semaphore sets: the kernel knows only a key.

The first semaphore tells the kind. A key made of a path is the path's CRC-32. The maker of a set leaves a symbolic link to the path
in /dev/shm, under its user and the key; whoever removes the set removes it. It is only for display: nothing is opened by it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from zlib import crc32

from .semaphore import value_of

EVENT, CONDITION, BARRIER, RWLOCK = 0x4101, 0x4102, 0x4103, 0x4104
_NAMES = {EVENT: "event", CONDITION: "condition", BARRIER: "barrier", RWLOCK: "rwlock"}
DIRECTORY, PREFIX = "/dev/shm", "aipc-name-"  # noqa: S108 - the owner of what is read there is checked


def key_of_path(path: str) -> int:
    """The key of a path: 32 bits, never 0. No file need exist there."""
    return crc32(os.fsencode(os.path.abspath(path))) or 1


def _link(key: int, uid: int) -> str:
    return f"{DIRECTORY}/{PREFIX}{uid}-{key & 0xFFFFFFFF:08x}"


def remember(path: str) -> None:
    """Leave the path of a new set for `alias`."""
    with suppress(OSError):  # it is known already, or there is no /dev/shm: the key is shown instead
        os.symlink(os.path.abspath(path), _link(key_of_path(path), os.geteuid()))


def forget(key: int, uid: int) -> None:
    """Remove the path of a set that is gone."""
    with suppress(OSError):
        os.unlink(_link(key, uid))


def alias(identifier: int, key: int, uid: int) -> str | None:
    """A primitive's kind and path, such as `event:/run/app.ready`, or its key. None if the set is not one, or cannot be read."""
    try:
        kind = _NAMES.get(value_of(identifier, 0))
    except OSError:
        return None
    if kind is None:
        return None
    return f"{kind}:{_path(key, uid) or (hex(key) if key else 'private')}"


def _path(key: int, uid: int) -> str | None:
    link = _link(key, uid)
    try:
        path = os.readlink(link)
        own = os.lstat(link).st_uid == uid
    except OSError:
        return None
    return path if own and key_of_path(path) == key else None
