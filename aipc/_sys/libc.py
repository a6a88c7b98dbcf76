"""The C library's functions that Python does not offer, and their errors (errno(3))."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def last_error() -> OSError:
    """The error of this thread's last call."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def check(result: int) -> int:
    """The result of a call that gives a negative number for an error: then an OSError."""
    if result < 0:
        raise last_error()
    return result
