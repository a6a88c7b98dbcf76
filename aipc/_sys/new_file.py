"""A new file that has its size, mode and first bytes before any process can open it (O_TMPFILE of open(2), linkat(2))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from . import probes

_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def _nothing(fd: int) -> None: ...


def create(path: str, size: int, mode: int, *, reserve: bool = True, prepare: Callable[[int], None] = _nothing) -> int:
    """Create the file `path`, which must not exist, and return its descriptor, open for both. After an error there is no file.

    The file has exactly `mode`, whatever the umask. `reserve` reserves the space now: a full file system is then an OSError here
    (ENOSPC, posix_fallocate(3)), not SIGBUS at the first touch. `prepare` may write before the file has its name.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    directory = os.path.dirname(path) or "."
    fd, temporary = _nameless(directory, mode)
    try:
        os.fchmod(fd, mode)
        if reserve:
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
        prepare(fd)
        if temporary is None:
            _link(fd, path)
        else:
            os.link(temporary, path)
    except BaseException:
        os.close(fd)
        raise
    finally:
        if temporary is not None:
            os.unlink(temporary)
    return fd


def _nameless(directory: str, mode: int) -> tuple[int, str | None]:
    """Return a new file's descriptor, and its temporary path on file systems without nameless files, such as NFS."""
    flags = os.O_RDWR | os.O_CLOEXEC
    if probes.enabled("tmpfile"):
        try:
            return os.open(directory, flags | os.O_TMPFILE, mode), None
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
    temporary = os.path.join(directory, f".aipc-{os.urandom(8).hex()}")
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL, mode), temporary


def _link(fd: int, path: str) -> None:
    directory = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # os.link follows the link /proc/self/fd/N only with a directory's descriptor (python/cpython#81793).
        os.link(str(fd), path, src_dir_fd=directory)
    finally:
        os.close(directory)
