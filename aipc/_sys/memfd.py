"""Anonymous memory with a descriptor, sealed so that it keeps its size (memfd_create(2), F_ADD_SEALS of fcntl(2)).

Touching a page beyond the end of a file is SIGBUS. So memory from a peer is mapped only after `check`: from then on nobody can
shrink it. The peer can change its contents at any time: copy first, then validate.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from aipc.exceptions import ObjectMissing, WrongObject

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def create(name: str, size: int) -> int:
    """Return the descriptor, close-on-exec, of `size` zero bytes (1 or more) that nobody can resize. OSError from the kernel.

    `name` is shown in /proc/PID/maps only. The kernel allocates a page when it is first touched.
    """
    fd = create_unsealed(name, size)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_unsealed(name: str, size: int) -> int:
    """The same, for a maker that adds seals itself."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check(fd: int) -> int:
    """Return the size of the sealed memory behind `fd` in bytes, which can no longer change. `fd` stays open in any case.

    WrongObject if it is not a memfd, can be resized, is empty, or has huge pages, which a page fault may fail to get;
    ObjectMissing if the descriptor is not open.
    """
    where = f"descriptor {fd}"
    if fd < 0:
        raise ObjectMissing(errno.EBADF, f"{where}: there is no such descriptor")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        page = os.fstatvfs(fd).f_bsize
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ObjectMissing(errno.EBADF, f"{where}: not open for data") from None
        raise WrongObject(errno.EINVAL, f"{where}: not a memfd (memfd_create(2))") from None
    if seals & SEALS != SEALS:
        raise WrongObject(
            errno.EINVAL,
            f"{where}: a memfd that can be resized, which would be SIGBUS here; its maker must add F_SEAL_SHRINK, F_SEAL_GROW "
            "and F_SEAL_SEAL",
        )
    if page != mmap.PAGESIZE:
        raise WrongObject(errno.EINVAL, f"{where}: a memfd of huge pages; use plain ones")
    size = os.fstat(fd).st_size
    if size == 0:
        raise WrongObject(errno.EINVAL, f"{where}: an empty memfd; its maker must give it a size before it seals it")
    return size
