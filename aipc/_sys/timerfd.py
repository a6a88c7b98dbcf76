"""timerfd_create(2): in `os` from Python 3.13 on; before, the same two calls through ctypes."""

from __future__ import annotations

import ctypes
import os
import sys

from .libc import check, libc

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


def expired(fd: int) -> bool:
    """Whether the timer has fired since the last call; a second call for the same expiry returns False."""
    try:
        return bool(os.read(fd, 8))
    except BlockingIOError:
        return False


if sys.version_info >= (3, 13):

    def create() -> int:
        """Make a disarmed timer; return its descriptor: close-on-exec, non-blocking."""
        return os.timerfd_create(_CLOCK_MONOTONIC, flags=_FLAGS)

    def arm(fd: int, seconds: float) -> None:
        """Let the timer fire once, in `seconds`. Drops an earlier expiry that was not read."""
        os.timerfd_settime(fd, initial=seconds)

else:

    class _Timespec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    class _Itimerspec(ctypes.Structure):
        _fields_ = (("interval", _Timespec), ("value", _Timespec))

    def create() -> int:
        """Make a disarmed timer; return its descriptor: close-on-exec, non-blocking."""
        return check(libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS))

    def arm(fd: int, seconds: float) -> None:
        """Let the timer fire once, in `seconds`. Drops an earlier expiry that was not read."""
        whole, rest = divmod(seconds, 1)
        time = _Itimerspec(value=_Timespec(int(whole), int(rest * 1e9)))
        check(libc.timerfd_settime(fd, 0, ctypes.byref(time), None))
