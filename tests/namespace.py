"""An IPC namespace and a /dev/shm of the tests' own: what other programs make meanwhile, another run of the tests included, is not seen.

The leak check compares what the kernel has before a test and after it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

NEWNS, NEWIPC, NEWUSER = 0x0002_0000, 0x0800_0000, 0x1000_0000
_PRIVATE = (1 << 18) | (1 << 14)  # MS_PRIVATE | MS_REC
_SYS_ADMIN = 21
_AMBIENT, _RAISE, _CLEAR_ALL = 47, 2, 4  # prctl(2)
_VERSION_3 = 0x2008_0522  # capset(2)
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def enter() -> bool:
    """Whether this process, and its children from now on, have them (unshare(2), mount(2)).

    Root may. Others may in a user namespace, which only a process with one thread can enter: pytest itself does, and its workers
    inherit what they need to have namespaces of their own.
    """
    try:
        if os.getuid() and "PYTEST_XDIST_WORKER" not in os.environ:
            _enter_user_namespace()
        _check(_libc.unshare(NEWIPC | NEWNS))
        _check(_libc.mount(b"none", b"/", None, _PRIVATE, None))
        _check(_libc.mount(b"aipc tests", b"/dev/shm", b"tmpfs", 0, b"mode=1777"))
        if os.path.ismount("/dev/mqueue"):
            _check(_libc.mount(b"aipc tests", b"/dev/mqueue", b"mqueue", 0, None))
    except OSError:
        return False
    return True


def _enter_user_namespace() -> None:
    """It knows this user and this group only (user_namespaces(7))."""
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _set_capabilities(1 << _SYS_ADMIN)
    _check(_libc.prctl(_AMBIENT, _RAISE, _SYS_ADMIN, 0, 0))


def be_an_ordinary_user() -> None:
    """Before the first test: no more privileges in the user namespace."""
    if os.getuid():
        _check(_libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0))
        _set_capabilities(0)


def _set_capabilities(those: int) -> None:
    _check(_libc.capset(struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", those, those, those, 0, 0, 0)))
