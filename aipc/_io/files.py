"""Paths: whose file is it, and reaching a socket file whose path is longer than sockaddr_un takes (unix(7))."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from aipc.exceptions import AddressError

LONGEST_SOCKET_PATH = 107
"""Bytes of sun_path, less its terminating zero."""


def same_file(path: str, known: os.stat_result) -> bool:
    """Whether `path` is still the very file that `known` described."""
    try:
        return os.path.samestat(os.lstat(path), known)
    except OSError:
        return False


@contextmanager
def directory_locked(path: str) -> Iterator[None]:
    """Hold the flock(2) of the directory that `path` is in; BlockingIOError if another process does.

    The directory's own lock leaves no file behind, and dies with its holder.
    """
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A name for `path` that fits sockaddr_un, through the descriptor of its directory where it is too long itself.

    An abstract name, behind a zero byte, stays as it is.
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

    Asked with a datagram socket: a live stream socket answers EPROTOTYPE and does not even see a connection, a datagram
    socket that is connected to another one EPERM; one that nobody has open is ECONNREFUSED.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        code = probe.connect_ex(path)
    if code not in (0, errno.EPROTOTYPE, errno.EPERM, errno.ECONNREFUSED):
        raise OSError(code, os.strerror(code))
    return code != errno.ECONNREFUSED
