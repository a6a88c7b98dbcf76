"""Functions of the C library that Python does not offer, and their errors (errno(3))."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def last_error() -> OSError:
    """Return the error of this thread's last call."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def check(result: int) -> int:
    """Return the result of a call; a negative number is an OSError."""
    if result < 0:
        raise last_error()
    return result
