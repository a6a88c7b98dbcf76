"""System calls that fail: the kernel is told so, by seccomp(2), for all of this process from then on. For child processes only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import platform
import struct
import threading
from collections.abc import Sequence

_NUMBERS = {
    "x86_64": {
        "accept4": [288],
        "chmod": [90],
        "fchmod": [91],
        "listen": [50],
        "semop": [65, 220],
        "msgget": [68],
        "mq_open": [240],
        "fcntl": [72],
        "flock": [73],
        "fstat": [5],
        "newfstatat": [262],
        "unlink": [87],
    },
    "aarch64": {
        "accept4": [242],
        "chmod": [53],
        "fchmod": [52],
        "listen": [201],
        "semop": [193, 192],
        "msgget": [186],
        "mq_open": [180],
        "fcntl": [25],
        "flock": [32],
        "fstat": [80],
        "newfstatat": [79],
        "unlink": [35],
    },
}  # the C library's semop(3) may call semtimedop(2)
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 1 << 3
_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTIFICATION, _CONTINUE = 80, 1
_ANSWER = struct.Struct("QqiI")
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
Step = tuple[int, int, int, int]
"""An instruction of a filter: its code, how far to jump if true and if not, its operand."""


def fail(call: str, code: int, position: int | None = None, value: int = 0) -> None:
    """Every `call` of this thread, and of those that it starts, fails with that errno; with `position`, if that argument is `value`."""
    argument = [] if position is None else [(_LOAD, 0, 0, 16 + 8 * position), (_EQUAL, 0, 1, value)]
    _install(_NUMBERS[platform.machine()][call], _ERRNO | code, 0, argument)


def fail_next(call: str, *codes: int) -> None:
    """The next ones fail with these errnos, and those after them work. Only for calls during which Python lets other threads run.

    The filter hands each call to a thread of this process (seccomp_unotify(2)), which answers it.
    """
    left = list(codes)
    notifications = _install(_NUMBERS[platform.machine()][call], _NOTIFY, _NEW_LISTENER)

    def answer() -> None:
        while True:
            request = bytearray(_NOTIFICATION)
            try:
                fcntl.ioctl(notifications, _RECEIVE, request)
                number = struct.unpack_from("Q", request)[0]
                told = (-left.pop(0), 0) if left else (0, _CONTINUE)
                fcntl.ioctl(notifications, _SEND, bytearray(_ANSWER.pack(number, 0, *told)))
            except OSError as error:
                if error.errno not in (errno.EINTR, errno.ENOENT):  # ENOENT: the caller was interrupted
                    raise

    threading.Thread(target=answer, daemon=True).start()


def _install(numbers: Sequence[int], action: int, flags: int, argument: Sequence[Step] = ()) -> int:
    """A filter that loads the call's number, and gives `action` if it is one of these, and the `argument` fits; else allows it."""
    given = [*argument, (_RETURN, 0, 0, action)]
    steps: list[Step] = [(_LOAD, 0, 0, 0)]
    steps += [(_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), *given, (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    result: int = libc.syscall(_SECCOMP[platform.machine()], _SET_FILTER, flags, described)
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")
    return result
