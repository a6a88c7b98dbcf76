"""Opening a System V semaphore set, so that processes which create it at the same time agree on its values (semget(2), NOTES)."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import anyio

from aipc._address import Address
from aipc._io.errors import naming
from aipc._io.handle import AddressHandle
from aipc._sys.create_or_open import create_or_open
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import key_of
from aipc._texts import hints
from aipc.exceptions import AipcError, LimitExceeded, ObjectExists, ObjectMissing, ObjectRemoved, WrongObject

PATIENCE = 1.0
"""Seconds that a set's creator has to operate on it, which takes some microseconds."""


async def open_set(
    address: Address, project: int | None, *, create: bool, exclusive: bool, mode: int, values: Sequence[int], adopt: bool
) -> sysv.SemaphoreSet:
    """Open the set of that key; a new one has `values`. ObjectMissing, ObjectExists, AccessDenied.

    With `create`, the process that makes the set gives it its values and then operates on it, and the others wait for that
    (sem_otime): WrongObject if it does not happen within `PATIENCE`. With `adopt` they do not wait, and take the set as it is.
    Cancelled: nothing was opened.
    """
    key = key_of(address, project)
    with hinting_set(), naming_set(address.url), closing(AddressHandle(address.url)) as opening:
        while True:
            semaphores, is_new = create_or_open(
                (lambda: _create(key, mode, values)) if create or exclusive or key is None else None,
                lambda: sysv.SemaphoreSet(key, 0, 0),
                exclusive=exclusive,
            )
            if is_new or not create or adopt or await _initialised(semaphores, opening, address):
                return semaphores


def _create(key: int | None, mode: int, values: Sequence[int]) -> sysv.SemaphoreSet:
    """Create a set, with its values. FileExistsError if there is one."""
    semaphores = sysv.SemaphoreSet(key, len(values), sysv.CREATE | sysv.EXCLUSIVE | mode)
    try:
        semaphores.set_values([0, *values[1:]])
        semaphores.operate(sysv.operations([(0, values[0])], sysv.NOWAIT))  # last: the others wait for this operation
    except OSError:
        with suppress(OSError):  # another process removed it
            semaphores.remove()
        raise
    return semaphores


async def _initialised(semaphores: sysv.SemaphoreSet, opening: AddressHandle, address: Address) -> bool:
    """Wait until the creator has operated on the set. False if it is removed before that."""
    try:
        with anyio.move_on_after(PATIENCE):
            await opening.polling.attempt(_be_initialised, semaphores)
            return True
    except ObjectRemoved:
        return False
    raise WrongObject(
        errno.EINVAL,
        f"{address.url}: the set exists, but nobody has operated on it since it was made (sem_otime is 0): its creator has died too "
        f"soon, or sets values only by SETVAL or SETALL. `ipcrm -s {semaphores.id}` removes it; adopt=1 takes it as it is",
    )


def _be_initialised(semaphores: sysv.SemaphoreSet) -> None:
    if not semaphores.initialised():
        raise BlockingIOError


@contextmanager
def naming_set(where: str) -> Iterator[None]:
    """`naming`, with the kernel's limits for sets."""
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
        raise hints.hinted(error, hints.MAKE) from None
    except ObjectExists as error:
        raise hints.hinted(error, hints.LEFT) from None


def kernel_limit(error: OSError, where: str) -> OSError:
    """Return `error`, or LimitExceeded if it means that the set, or one operation on it, is too large."""
    if error.errno == errno.E2BIG:
        most = sysv.most_operations()
        return LimitExceeded(
            errno.E2BIG, f"{where}: more steps at once than the kernel takes: {most:,} (SEMOPM, in kernel.sem)"
        )
    if error.errno == errno.EINVAL and not isinstance(error, AipcError):
        return LimitExceeded(errno.EINVAL, f"{where}: more semaphores in a set than the kernel takes (SEMMSL, in kernel.sem)")
    return error
