"""Opening a System V semaphore set, so that all who create it at once agree on its values (semget(2), NOTES)."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import anyio

from aipc import _hints
from aipc._address import Address
from aipc._io.errors import naming
from aipc._io.handle import AddressHandle
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import key_of
from aipc.exceptions import AipcError, LimitExceeded, ObjectExists, ObjectMissing, ObjectRemoved, WrongObject

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
    with hinting_set(), naming_set(address.url), closing(AddressHandle(address.url)) as place:
        while True:
            if create or exclusive or key is None:
                semaphores = _made(key, mode, values, exclusive)
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


def _made(key: int | None, mode: int, values: Sequence[int], exclusive: bool) -> sysv.SemaphoreSet | None:
    """A new set; None if there is one, unless it had to be new."""
    try:
        semaphores = sysv.SemaphoreSet(key, len(values), sysv.CREATE | sysv.EXCLUSIVE | mode)
    except FileExistsError:
        if exclusive:
            raise
        return None
    try:
        semaphores.set_values([0, *values[1:]])
        semaphores.operate(sysv.operations([(0, values[0])], sysv.NOWAIT))  # the operation that others wait for comes last
    except OSError:
        with suppress(OSError):  # removed by somebody else
            semaphores.remove()
        raise
    return semaphores


async def _initialised(semaphores: sysv.SemaphoreSet, place: AddressHandle, address: Address) -> bool:
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


@contextmanager
def naming_set(where: str) -> Iterator[None]:
    """`naming`, with the kernel's limits on sets."""
    with naming(where):
        try:
            yield
        except OSError as error:
            raise kernel_limit(error, where) from None


@contextmanager
def hinting_set() -> Iterator[None]:
    """A block whose missing, or present, set is told with what to do."""
    try:
        yield
    except ObjectMissing as error:
        raise _hints.hinted(error, _hints.MAKE) from None
    except ObjectExists as error:
        raise _hints.hinted(error, _hints.LEFT) from None


def kernel_limit(error: OSError, where: str) -> OSError:
    """`error`, or LimitExceeded where it says that the set, or what it is to do at once, is too large."""
    if error.errno == errno.E2BIG:
        most = sysv.most_operations()
        return LimitExceeded(
            errno.E2BIG, f"{where}: more steps at once than the kernel takes: {most:,} (SEMOPM, in kernel.sem)"
        )
    if error.errno == errno.EINVAL and not isinstance(error, AipcError):
        return LimitExceeded(errno.EINVAL, f"{where}: more semaphores in a set than the kernel takes (SEMMSL, in kernel.sem)")
    return error
