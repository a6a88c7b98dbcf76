"""signalfd(2), and sending a signal with a value (pidfd_send_signal(2)): the standard library has neither."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ..libc import check, libc

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_PIDFD_SEND_SIGNAL = 424  # on every architecture
_SI_QUEUE = -1
_SIGSET_SIZE = 128
RECORD = 128
"""Bytes that the descriptor returns for each signal."""
_LAYOUT = struct.Struct("=IiiII24xi")  # signo, errno, code, pid, uid, ... int


class SignalInfo(NamedTuple):
    """One signal. `pid` and `uid`: its sender; `value`: the integer sent with it. None if unknown, or not sent."""

    signum: int
    pid: int | None = None
    uid: int | None = None
    value: int | None = None


class _Value(ctypes.Union):
    _fields_ = (("as_int", ctypes.c_int), ("as_pointer", ctypes.c_void_p))


class _Sender(ctypes.Structure):
    _fields_ = (("pid", ctypes.c_int), ("uid", ctypes.c_uint), ("value", _Value))


class _Siginfo(ctypes.Structure):
    _fields_ = (
        ("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int), ("sender", _Sender), ("rest", ctypes.c_char * 96),
    )  # fmt: skip


def create(signals: Iterable[int], fd: int = -1) -> int:
    """Make a descriptor that reads these signals, close-on-exec and non-blocking; or change the signals of `fd`."""
    chosen = ctypes.create_string_buffer(_SIGSET_SIZE)
    libc.sigemptyset(chosen)
    for signum in signals:
        check(libc.sigaddset(chosen, signum))
    return check(libc.signalfd(fd, chosen, _FLAGS))


def parse(record: bytes, offset: int = 0) -> SignalInfo:
    """Parse a signal read from the descriptor. It has a value only if the sender's code is below 0, as sigqueue(3)'s is."""
    signum, _, code, pid, uid, value = _LAYOUT.unpack_from(record, offset)
    return SignalInfo(signum, pid, uid, value if code < 0 and code != _SI_TKILL else None)


_SI_TKILL = -6


def queue(pidfd: int, signum: int, value: int) -> None:
    """sigqueue(3) to the process of a pidfd. EAGAIN at the receiver's RLIMIT_SIGPENDING, ESRCH if it is gone."""
    info = _Siginfo(signo=signum, code=_SI_QUEUE)
    info.sender = _Sender(os.getpid(), os.getuid(), _Value(as_int=value))
    check(libc.syscall(_PIDFD_SEND_SIGNAL, pidfd, signum, ctypes.byref(info), 0))
