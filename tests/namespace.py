"""An IPC namespace and a /dev/shm of the tests' own: what other programs make meanwhile, another run of the tests included, is not seen.

The leak check compares what the kernel has before a test and after it.
"""

from __future__ import annotations

import ctypes
import os

NEWNS, NEWIPC = 0x0002_0000, 0x0800_0000
_PRIVATE = (1 << 18) | (1 << 14)  # MS_PRIVATE | MS_REC
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def enter() -> bool:
    """Whether this process, and its children from now on, have them (unshare(2), mount(2)); root may, others may not."""
    try:
        _check(_libc.unshare(NEWIPC | NEWNS))
        _check(_libc.mount(b"none", b"/", None, _PRIVATE, None))
        _check(_libc.mount(b"aipc tests", b"/dev/shm", b"tmpfs", 0, b"mode=1777"))
        if os.path.ismount("/dev/mqueue"):
            _check(_libc.mount(b"aipc tests", b"/dev/mqueue", b"mqueue", 0, None))
    except PermissionError:
        return False
    return True
