"""Opening a System V semaphore set, so that all who create it at once agree on its values (semget(2), NOTES)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from urllib.parse import quote

import anyio

from aipc._address import Address, parse
from aipc._io.errors import translate
from aipc._io.handle import Place
from aipc._sys import sysv_semaphore as sysv
from aipc._sys.sysv_key import key_of
from aipc.exceptions import LimitExceeded, ObjectRemoved, WrongObject

PATIENCE = 1.0
"""Seconds for a set's creator to operate on it, which takes some microseconds."""


async def open_set(
    address: Address, project: int | None, *, create: bool, exclusive: bool, mode: int, values: Sequence[int], adopt: bool
) -> sysv.SemaphoreSet:
    """The set of that key; a new one has `values`. ObjectMissing, ObjectExists, AccessDenied.

    With `create`, whoever makes the set gives it its values and then operates on it, and the others wait for that (sem_otime):
    WrongObject if it does not happen within `PATIENCE`. With `adopt` they don't wait, but take it as it is. Cancelled: nothing
    was opened.
    """
    key = key_of(address, project)
    place = Place(address.url)
    try:
        while True:
            if create or exclusive or key is None:
                semaphores = _made(key, mode, values, exclusive, address)
                if semaphores is not None:
                    return semaphores
            try:
                semaphores = sysv.SemaphoreSet(key, 0, 0)
            except FileNotFoundError:
                if not create:
                    raise
                continue  # it was removed in between: once more
            if not create or adopt or await _initialised(semaphores, place, address):
                return semaphores
    except OSError as error:
        raise translate(error, address.url) from None
    finally:
        place.close()


def _made(key: int | None, mode: int, values: Sequence[int], exclusive: bool, address: Address) -> sysv.SemaphoreSet | None:
    """A new set; None if there is one, unless it had to be new."""
    try:
        semaphores = sysv.SemaphoreSet(key, len(values), sysv.CREATE | sysv.EXCLUSIVE | mode)
    except FileExistsError:
        if exclusive:
            raise
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise LimitExceeded(f"{address.url}: {len(values):,} semaphores in a set are more than kernel.sem allows") from None
        raise
    try:
        semaphores.set_values([0, *values[1:]])
        semaphores.operate(sysv.operations([(0, values[0])], sysv.NOWAIT))  # the operation that others wait for comes last
    except OSError:
        semaphores.remove()
        raise
    return semaphores


async def _initialised(semaphores: sysv.SemaphoreSet, place: Place, address: Address) -> bool:
    """Wait until its creator has operated on it; False if it is removed before that."""
    try:
        with anyio.move_on_after(PATIENCE):
            await place.polling.attempt(_be_initialised, semaphores)
            return True
    except ObjectRemoved:
        return False
    raise WrongObject(
        errno.EINVAL,
        f"{address.url}: the set is there, but nobody has operated on it since it was made (sem_otime is 0): its creator has died "
        f"too soon, or sets values by SETVAL or SETALL alone. `ipcrm -s {semaphores.id}` removes it; adopt=1 takes it as it is",
    )


def _be_initialised(semaphores: sysv.SemaphoreSet) -> None:
    if not semaphores.initialised():
        raise BlockingIOError


def set_address(key: int | str | os.PathLike[str] | None) -> Address:
    """The address of the set that `key` means: a URL or what stands behind its colon, a number, a path; None is private."""
    if isinstance(key, str):
        text = key.removeprefix("sysv-sem:")
    elif isinstance(key, int):
        text = hex(key)
    else:
        text = "private" if key is None else quote(os.fsencode(key))
    return parse(f"sysv-sem:{text}")
