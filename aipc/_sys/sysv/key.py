"""System V keys (sysvipc(7), ftok(3)), in each form that a URL may have."""

from __future__ import annotations

import errno
import os
from functools import cache

from aipc._address import Address
from aipc.exceptions import ObjectMissing

_KEYS = 1 << 32


def key_of(address: Address, project: int | None) -> int | None:
    """Return the `key_t` of the address: its number, or ftok(3) of a path and `project`. None for `private` (IPC_PRIVATE).

    A number has 32 bits, as in `0x4d2` or `1234`; from 0x80000000 on it is one of C's negative keys. A relative path starts at the
    working directory. AddressError for anything else; ObjectMissing if the path does not exist.
    """
    key = check_key(address, project)
    return _ftok(address, key, project or 0) if isinstance(key, str) else key


def check_key(address: Address, project: int | None = None, **_others: object) -> int | str | None:
    """The key, or the path to make one from, or None. AddressError if it is none of them. It looks at no file."""
    text = address.path
    number = _number(text)
    if address.authority:
        raise address.error("a key stands behind the colon, as in sysv-mq:0x4d2, without //")
    if project is None:
        if text == "private":
            return None
        return _in_range(address, number)
    if not text or text == "private" or number is not None:
        raise address.error(f"project goes with a path, as in kirk.c?project=66; a file of that name would be ./{text}")
    if isinstance(project, bool) or not 1 <= project <= 255:
        raise address.error(f"project={project}: must be from 1 to 255, as in ftok(3)")
    return text


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _in_range(address: Address, key: int | None) -> int:
    text = address.path
    if key is None:
        hint = f"{text}?project=66, as in ftok(3)" if text else "a path with project=N"
        raise address.error(f"{text!r} is no key: use 0x4d2, 1234, private, or {hint}")
    if not -_KEYS // 2 <= key < _KEYS or key == 0:
        raise address.error(f"key {text}: must be within 32 bits and not 0 (for an object without a key, use private)")
    return _signed(key)


def _ftok(address: Address, path: str, project: int) -> int:
    try:
        file = os.stat(path)
    except FileNotFoundError:
        raise ObjectMissing(errno.ENOENT, f"{address.url}: there is no file {os.path.abspath(path)} to make a key of") from None
    return _signed(project << 24 | (file.st_dev & 0xFF) << 16 | file.st_ino & 0xFFFF)  # as the C library has it


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
