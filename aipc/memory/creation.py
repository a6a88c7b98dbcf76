"""Open or create: of all who come at once, one makes the segment and prepares it, and the others see all of that."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from aipc.abc import Segment
from aipc.exceptions import ObjectExists, ObjectMissing, WrongObject

from .base import mapped

Prepare = Callable[[memoryview], object]
"""Writes the first bytes of a new segment."""
PATIENCE = 1.0
"""Seconds for whoever made a segment to prepare it, which should take far less: the loop waits as well."""
_PAUSE = 100e-6
Result = TypeVar("Result")
Found = TypeVar("Found", bound=Segment)


class NotReady(WrongObject):
    """The segment is there, but whoever made it has yet to give it a size, or its first bytes."""


def when_ready(call: Callable[[], Result], *others: type[Exception]) -> Result:
    """The result of `call`, which is tried again after NotReady and `others`; after a second, the error itself."""
    again: tuple[type[Exception], ...] = (NotReady, *others)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except again:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def open_or_create(size: int, find: Callable[[], Found], make: Callable[[], Found]) -> Found:
    """What `find` finds, or `make` makes if there is nothing. WrongObject if it has less than `size` bytes."""

    def either() -> Found:
        try:
            return find()
        except ObjectMissing:
            return make()

    segment = when_ready(either, ObjectExists)  # it was made in between
    if segment.size < size:
        there = segment.size
        segment.close()
        raise WrongObject(
            errno.EINVAL, f"{segment!r}: it is there already, with {there:,} bytes, fewer than size={size:,}; open() takes it"
        )
    return segment


def filling(size: int, prepare: Prepare | None) -> Callable[[int], None]:
    """What prepares a new file of `size` bytes by its descriptor."""

    def fill(fd: int) -> None:
        if prepare is not None:
            prepare(memoryview(mapped(fd, size, read_only=False)).cast("B"))

    return fill
