"""Signals by number and by name (signal(7)). SIGRTMIN is the C library's: 34 with glibc, which reserves two for itself."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

from aipc.exceptions import UnsupportedOperation

REALTIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
VALID = frozenset(map(int, signal.valid_signals()))  # asked once: 50 µs each time
_REALTIME_NAME = re.compile(r"SIGRT(MIN(\+\d{1,2})?|MAX(-\d{1,2})?)", re.ASCII)


def name_of(signum: int) -> str:
    """Return `SIGHUP`, `SIGRTMIN+3`; the number itself if it has no name."""
    if signum in REALTIME:
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}" if signum > signal.SIGRTMIN else "SIGRTMIN"
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


def realtime(text: str) -> int:
    """Return the number of the real-time signal `SIGRTMIN+1`, `SIGRTMAX-2` or `35`. ValueError if it is not one."""
    match = _REALTIME_NAME.fullmatch(text)
    if match is None:
        signum = int(text)
    elif text.startswith("SIGRTMIN"):
        signum = signal.SIGRTMIN + int(match[2] or 0)
    else:
        signum = signal.SIGRTMAX + int(match[3] or 0)
    if signum not in REALTIME:
        raise ValueError(text)
    return signum


def receivable(signals: Iterable[int]) -> frozenset[int]:
    """Return the signals as a set. ValueError if there are none, or one is invalid; UnsupportedOperation for SIGKILL and SIGSTOP."""
    chosen = frozenset(signals)
    if not chosen:
        raise ValueError("no signals given: name at least one, such as signal.SIGHUP")
    for signum in chosen:
        if not isinstance(signum, int):
            raise TypeError(f"{signum!r}: a signal is a number, such as signal.SIGHUP")
        if signum in (signal.SIGKILL, signal.SIGSTOP):
            raise UnsupportedOperation(f"{name_of(signum)} can't be caught or blocked (signal(7)): nobody can receive it")
        if signum not in VALID:
            raise ValueError(f"{signum}: no such signal; there are 1 to 31, and {REALTIME[0]} to {REALTIME[-1]} (real-time)")
    return frozenset(map(int, chosen))
