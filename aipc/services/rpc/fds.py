"""Descriptors that were not received."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)
