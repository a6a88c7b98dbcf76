"""Creating a kernel object, or opening the one that exists, also while other processes create and remove it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Created = TypeVar("Created")

_TRIES = 1_000


def create_or_open(
    create: Callable[[], Created] | None, open_existing: Callable[[], Created], *, exclusive: bool
) -> tuple[Created, bool]:
    """Return the object, and whether it is new. Without `create`, only open an existing one.

    `create` must fail with FileExistsError if there is an object, and `open_existing` with FileNotFoundError if there is none.
    FileExistsError with `exclusive`, FileNotFoundError without `create`, or if the object vanishes again and again in between.
    """
    for tries_left in reversed(range(_TRIES)):
        if create is not None:
            try:
                return create(), True
            except FileExistsError:
                if exclusive:
                    raise
        try:
            return open_existing(), False
        except FileNotFoundError:
            if create is None or not tries_left:
                raise
    raise AssertionError("unreachable")
