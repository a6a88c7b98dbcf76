"""System V keys (sysvipc(7), ftok(3)), in each form that a URL may have."""

from __future__ import annotations

import errno
import os
from functools import cache

from aipc._address import Address
from aipc.exceptions import ObjectMissing

_KEYS = 1 << 32


def key_of(address: Address, project: int | None) -> int | None:
    """Return the `key_t` of the address; None for a private object.

    `0x4d2` and `1234` are keys as in C (32 bits; the upper half means C's negative keys), `private` is IPC_PRIVATE, and a path with
    `project=N` is ftok(3). AddressError for anything else.
    """
    text = address.path
    if address.authority:
        raise address.error("a key follows the colon, as in sysv-mq:0x4d2, without //")
    if text == "private" and project is None:
        return None
    if text.startswith("/"):
        return _ftok(address, text, project)
    if project is not None:
        raise address.error("project goes with a path, as in /etc/app.conf?project=66")
    try:
        key = int(text, 0)
    except ValueError:
        raise address.error(f"{text!r} is not a key: use 0x4d2, 1234, private, or a path with project=N") from None
    if not -_KEYS // 2 <= key < _KEYS or key == 0:
        raise address.error(f"key {text}: must be within 32 bits and not 0 (for an object without a key, use private)")
    return _signed(key)


def _ftok(address: Address, path: str, project: int | None) -> int:
    if project is None or not 1 <= project <= 255:
        raise address.error("a path needs project=N to be a key, N from 1 to 255, as in ftok(3)")
    try:
        file = os.stat(path)
    except FileNotFoundError:
        raise ObjectMissing(errno.ENOENT, f"{address.url}: there is no file {path} to make a key of") from None
    return _signed(project << 24 | (file.st_dev & 0xFF) << 16 | file.st_ino & 0xFFFF)  # as in the C library


def _signed(key: int) -> int:
    """Return the key as C's key_t, a signed int."""
    return key - _KEYS if key >= _KEYS // 2 else key


@cache
def _world() -> str:
    """The name of this IPC namespace: System V identifiers are valid in one namespace only (ipc_namespaces(7)). Empty without /proc."""
    try:
        return os.readlink("/proc/self/ns/ipc")
    except OSError:
        return "ipc"


def object_name(kind: str, identifier: int) -> str:
    """An object's name by its identifier: the same in all processes that can reach it."""
    return f"{_world()} {kind} {identifier}"
