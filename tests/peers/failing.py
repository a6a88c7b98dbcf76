"""System calls that fail: the kernel is told so, by seccomp(2), for all of this process from then on. For child processes only.

`fail_next` hands each call to a thread of this process (seccomp_unotify(2)), which answers with the next errno, or lets it happen;
`refuse` is the kernel's own, and for good.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import platform
import struct
import threading

_NUMBERS = {
    "x86_64": {"accept4": 288, "chmod": 90, "listen": 50, "semop": 65, "msgget": 68, "mq_open": 240, "fchmod": 91}
    | {"fcntl": 72, "flock": 73, "fstat": 5, "newfstatat": 262, "unlink": 87},
    "aarch64": {"accept4": 242, "chmod": 53, "listen": 201, "semop": 193, "msgget": 186, "mq_open": 180, "fchmod": 52}
    | {"fcntl": 25, "flock": 32, "fstat": 80, "newfstatat": 79, "unlink": 35},
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 1 << 3
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY, _FAIL = 0x7FFF0000, 0x7FC00000, 0x00050000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTIFICATION, _CONTINUE = 80, 1
_ANSWER = struct.Struct("QqiI")


def fail_next(call: str, *codes: int) -> None:
    """The next calls of `call` in this thread, and in those that it starts, fail with these errnos; those after them work."""
    left = list(codes)
    notifications = _listener(_NUMBERS[platform.machine()][call])

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


def refuse(call: str, code: int, position: int | None = None, value: int = 0) -> None:
    """From now on `call` fails with that errno; with `position`, only where the argument there is `value`."""
    steps = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1 if position is None else 3, _NUMBERS[platform.machine()][call])]
    if position is not None:
        steps += [(_LOAD, 0, 0, 16 + 8 * position), (_EQUAL, 0, 1, value)]
    _filter([*steps, (_RETURN, 0, 0, _FAIL | code), (_RETURN, 0, 0, _ALLOW)], 0)


def _listener(number: int) -> int:
    """Install the filter: load the call's number; if it is that one, notify; else allow."""
    steps = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)]
    return _filter(steps, _NEW_LISTENER)


def _filter(steps: list[tuple[int, int, int, int]], flags: int) -> int:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    descriptor = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    result: int = libc.syscall(_SECCOMP[platform.machine()], _SET_FILTER, flags, descriptor)
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")
    return result
