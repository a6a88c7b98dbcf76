"""A new file that has its size, its mode and its first bytes before anybody can open it (O_TMPFILE of open(2), linkat(2))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from aipc._sys import probes

_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def _nothing(fd: int) -> None: ...


def create(path: str, size: int, mode: int, *, reserve: bool = True, prepare: Callable[[int], None] = _nothing) -> int:
    """Make the file `path`, which must not exist, and give its descriptor, open for both; on any error there is none.

    `mode` is the file's, whatever the umask. `reserve` takes the space now, so that a full file system is an OSError here
    (ENOSPC, posix_fallocate(3)), not SIGBUS at the first touch. `prepare` may write before the file has its name.
    """
    fd, link = _nameless(path, mode)
    try:
        os.fchmod(fd, mode)
        if reserve:
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
        prepare(fd)
        if link:
            _link(fd, path)
    except BaseException:
        if not link:
            os.unlink(path)
        os.close(fd)
        raise
    return fd


def _nameless(path: str, mode: int) -> tuple[int, bool]:
    """A descriptor, and whether its file has yet to get its name: some file systems can't make one without."""
    flags = os.O_RDWR | os.O_CLOEXEC
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if probes.enabled("tmpfile"):
        try:
            return os.open(os.path.dirname(path) or ".", flags | os.O_TMPFILE, mode), True
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), False


def _link(fd: int, path: str) -> None:
    directory = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Only with a directory's descriptor does os.link follow the link that /proc/self/fd/N is (python/cpython#81793).
        os.link(str(fd), path, src_dir_fd=directory)
    finally:
        os.close(directory)
