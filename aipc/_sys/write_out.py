"""Beginning to write a file's changed pages to the disk, without waiting for the end of it (sync_file_range(2))."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_WRITE = 2


def sync_file_range(fd: int) -> None:
    """Begin; it may wait for room in the disk's queue. msync(2) with MS_ASYNC would do nothing at all on Linux."""
    if _libc.sync_file_range(fd, 0, 0, _WRITE) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
