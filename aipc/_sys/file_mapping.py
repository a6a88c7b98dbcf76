"""Files as memory (mmap(2)) through ctypes.

`mmap.mmap` keeps its own descriptor until the memory is freed, and closing any descriptor of a file drops the process's classic
locks on that file (fcntl(2)). A mapping needs no descriptor; from Python 3.13 on, `trackfd=False` does the same.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Any

from .libc import last_error, libc

_mmap = getattr(libc, "mmap64", libc.mmap)  # its offsets have 64 bits, also where off_t has 32
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_mmap.restype = ctypes.c_void_p
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def mapped(fd: int, size: int, *, read_only: bool, private: bool, offset: int) -> Any:
    """Map the file as an array, which is unmapped when its last view is gone. Writing to a `read_only` mapping is SIGSEGV."""
    protection = mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE
    address = _mmap(None, size, protection, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, fd, offset)
    if address == _FAILED:
        raise last_error()
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, libc.munmap, address, size).atexit = False
    return memory
