"""The names of all POSIX queues of this IPC namespace (mq_overview(7))."""

from __future__ import annotations

import os

from ..libc import check, libc

MOUNT = "/dev/mqueue"
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture except alpha
_CLOEXEC, _CREATE = 1, 6


def queue_names() -> list[str] | None:
    """Return the names, without their slash, that the mounted file system shows.

    If none is mounted, this reads a detached one (fsopen(2)), which needs CAP_SYS_ADMIN. None: unknown.
    """
    if os.path.ismount(MOUNT):
        return os.listdir(MOUNT)
    try:
        return _detached_names()
    except OSError:
        return None


def _detached_names() -> list[str]:
    context = check(libc.syscall(_FSOPEN, b"mqueue", _CLOEXEC))
    try:
        check(libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0))
        mounted = check(libc.syscall(_FSMOUNT, context, _CLOEXEC, 0))
    finally:
        os.close(context)
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)
    try:
        return os.listdir(root)
    finally:
        os.close(root)
