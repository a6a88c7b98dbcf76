"""Open or create: of all who come at once, one makes the segment and prepares it, and the others see all of that.

Plain calls wait for a maker that is just about to finish; `wait_ready` waits for a slow one.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import anyio

from aipc.abc import Segment
from aipc.exceptions import ObjectExists, ObjectMissing, WrongObject

from .base import mapped

Prepare = Callable[[memoryview], object]
"""Writes the first bytes of a new segment."""
PATIENCE = 0.1
"""Seconds that a plain call waits for the maker of a segment, which has the loop wait as well. Less, and a maker that another
program keeps from its processor would be taken for a slow one."""
_PATIENT = ContextVar("_PATIENT", default=True)
_PAUSE = 100e-6
_LONGEST_PAUSE = 0.01
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Found = TypeVar("Found", bound=Segment)


class NotReady(WrongObject):
    """The segment is there, but whoever made it has yet to give it a size, or its first bytes."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, f"{text}; await aipc.wait_ready(...) waits for it")


async def wait_ready(call: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
    """The result of `call(*args, **kwargs)`, as soon as the segment that it opens has been prepared.

    `call` is `open_or_create`, `open` or `attach` of a segment. It is tried again as long as it finds a segment that its maker
    has not finished, after 1 ms, and then after twice as long each time, up to 10 ms. Other errors are raised. There is no
    limit of time: use a timeout. Cancelled: nothing was opened, and nothing was made.
    """
    pause = 0.001
    while True:
        plain = _PATIENT.set(False)
        try:
            return call(*args, **kwargs)
        except NotReady:
            pass
        finally:
            _PATIENT.reset(plain)
        await anyio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def when_ready(call: Callable[[], Result], *others: type[Exception]) -> Result:
    """The result of `call`, which is tried again after NotReady and `others`; after `PATIENCE`, the error itself."""
    again: tuple[type[Exception], ...] = (NotReady, *others)
    deadline = time.monotonic() + (PATIENCE if _PATIENT.get() else 0)
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
        with suppress(ObjectMissing):
            return find()
        try:
            return make()
        except ObjectExists:  # it was made in between
            with suppress(ObjectMissing):
                return find()
            raise

    segment = when_ready(either, ObjectExists)
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
