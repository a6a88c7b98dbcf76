"""Opening a primitive: its key, its set, and first values on which concurrent openers agree.

A new set's values are 0 on Linux, and one semop(2) that tests for all zeros prepares it. Any process that finds it unprepared may
do so: nobody waits for its creator, which may have been killed.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import replace

from aipc._address import Address
from aipc._sys.create_or_open import create_or_open
from aipc._sys.sysv import primitives
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import check_key, key_of
from aipc.exceptions import WrongObject
from aipc.locks.sysv_opening import hinting_set, naming_set

from .atomic_set import KIND, AtomicSet


def check(address: Address, project: int | None) -> None:
    """AddressError for a key that is none; no file is looked at."""
    if not _bare_path(address, project):
        check_key(address, project)


def _bare_path(address: Address, project: int | None) -> bool:
    return address.path.startswith("/") and not address.authority and project is None


def key(address: Address, project: int | None) -> int | None:
    """The System V key. For a path without a project it is the CRC-32 of the path's bytes, and no file need exist there."""
    if _bare_path(address, project):
        return key_of(replace(address, path=hex(primitives.key_of_path(address.path))), None)
    return key_of(address, project)


def open_set(
    address: Address,
    project: int | None,
    kind: int,
    first: Sequence[int],
    *,
    create: bool,
    exclusive: bool,
    mode: int,
    unlink: bool | None,
) -> AtomicSet:
    """Open the set of that key; a new one has `kind` and then the `first` values. Plain calls only: nothing can be cancelled.

    ObjectMissing, ObjectExists, AccessDenied; WrongObject if another kind of object has that key.
    """
    number = key(address, project)
    wanted = [kind, *first]
    with hinting_set(), naming_set(address.url):
        semaphores, made = _found(number, len(wanted), create=create, exclusive=exclusive, mode=mode)
        try:
            count = semaphores.count()
            prepare(semaphores, wanted, count)
            if semaphores.value(KIND) != kind:
                raise WrongObject(
                    errno.EINVAL, f"{address.url}: that key has another kind of object: a set of {count} semaphores"
                )
        except BaseException:
            if made:
                _give_up(semaphores, number)
            raise
    if made and project is None and address.path.startswith("/"):
        primitives.remember(address.path)
    return AtomicSet(semaphores, count, address.url, unlink=number is None if unlink is None else unlink)


def _give_up(semaphores: sysv.SemaphoreSet, number: int | None) -> None:
    """Remove a new set, unless another process has prepared it and may use it."""
    with contextlib.suppress(OSError):  # another process removed it
        if number is None or not semaphores.initialised():
            semaphores.remove()


def _found(number: int | None, count: int, *, create: bool, exclusive: bool, mode: int) -> tuple[sysv.SemaphoreSet, bool]:
    """Return the set, and whether it is new."""
    creates = create or exclusive or number is None
    return create_or_open(
        (lambda: sysv.SemaphoreSet(number, count, sysv.CREATE | sysv.EXCLUSIVE | mode)) if creates else None,
        lambda: sysv.SemaphoreSet(number, 0, 0),
        exclusive=exclusive,
    )


def prepare(semaphores: sysv.SemaphoreSet, wanted: Sequence[int], count: int) -> None:
    """Give a set of zeros its first values; leave any other set as it is."""
    if count != len(wanted):
        return
    zeros = [(index, 0) for index in range(count)]
    values = [(index, value) for index, value in enumerate(wanted) if value]
    with contextlib.suppress(BlockingIOError):  # it has values
        semaphores.operate(sysv.operations(zeros + values, sysv.NOWAIT))
