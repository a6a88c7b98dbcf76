"""Files and their paths: the owner of a file, a socket path longer than sockaddr_un takes (unix(7)), and write-back."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aipc.exceptions import AccessDenied, AddressError

from .libc import check, libc

LONGEST_SOCKET_PATH = 107
"""Bytes of sun_path, less its terminating zero."""

_OWN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO})


def same_file(path: str, known: os.stat_result) -> bool:
    """Whether `path` is still the same file as `known`."""
    try:
        return os.path.samestat(os.lstat(path), known)
    except OSError:
        return False


def remove_same_file(path: str, known: os.stat_result) -> None:
    """Remove `path` if it is still that file and this process may remove it. Never raises, so that closing can go on."""
    if same_file(path, known):
        with suppress(OSError):
            os.unlink(path)


@contextmanager
def path_reserved(path: str, name: str) -> Iterator[None]:
    """Be the only aipc process that makes or removes the socket file `path`. BlockingIOError while another one does.

    The lock is the flock(2) of a file beside it, `.NAME.aipc-bind`, which only this user can open: a lock on the directory itself
    could be taken, and kept, by anybody who may read the directory. The file is removed before it is unlocked, and a process that
    has locked a removed file tries again: so two never hold the lock (filelock#577). A killed process may leave the file, unlocked;
    the next process that listens there removes it. AccessDenied if such a file belongs to another user.
    """
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.aipc-bind")
    fd = _own_file(beside, name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = os.fstat(fd)
        if not same_file(beside, locked):
            raise BlockingIOError
        try:
            yield
        finally:
            remove_same_file(beside, locked)
    finally:
        os.close(fd)


def _own_file(path: str, name: str) -> int:
    """Create the file `path` for this user alone, or open it if it is such a file already."""
    try:
        return os.open(path, _OWN | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    try:
        fd = os.open(path, _OWN)
    except FileNotFoundError:
        raise BlockingIOError from None  # the other process has finished
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise _not_ours(path, name) from None
        raise
    there = os.fstat(fd)
    if there.st_uid == os.geteuid() and stat.S_ISREG(there.st_mode) and not there.st_mode & 0o077:
        return fd
    os.close(fd)
    raise _not_ours(path, name)


def _not_ours(path: str, name: str) -> OSError:
    why = f"{path} is another user's: it is listening there right now, or was killed; if it was, remove that file"
    return AccessDenied(errno.EACCES, f"{name}: {why}")


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """Return a name for `path` that fits sockaddr_un; if the path is too long, through the descriptor of its directory.

    An abstract name, behind a zero byte, does not change.
    """
    if path.startswith("\0") or len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        yield path
        return
    fd = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{fd}/{os.path.basename(path)}"
        if len(os.fsencode(short)) > LONGEST_SOCKET_PATH:
            raise AddressError(f"{path}: the file's own name is too long for a socket; use one of at most 80 bytes")
        yield short
    finally:
        os.close(fd)


def socket_in_use(path: str) -> bool:
    """Whether a live process has the socket file bound; `path` must fit sockaddr_un.

    A datagram socket asks: a live stream socket answers EPROTOTYPE, and sees no connection; a datagram socket that is connected to
    another one answers EPERM. ECONNREFUSED means that no process has the file open.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        code = probe.connect_ex(path)
    if code not in (0, errno.EPROTOTYPE, errno.EPERM, errno.ECONNREFUSED):
        raise OSError(code, os.strerror(code))
    return code != errno.ECONNREFUSED


libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2


def sync_file_range(fd: int) -> None:
    """Start to write a file's changed pages to the disk, without waiting for the result (sync_file_range(2)).

    It may wait for room in the disk's queue. msync(2) with MS_ASYNC does nothing on Linux.
    """
    check(libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE))
