"""errno -> exception: the one table (errno(3)), and the one place that words a failed system call."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from aipc import exceptions

_BROKEN = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN})
_BROKEN |= {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}  # a connection's peer fell silent (tcp(7))
_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.E2BIG})
_OS_ERRORS: dict[int, type[OSError]] = {
    errno.EEXIST: exceptions.ObjectExists,
    errno.EADDRINUSE: exceptions.ObjectExists,
    errno.ENOENT: exceptions.ObjectMissing,
    errno.ESRCH: exceptions.ProcessMissing,
    errno.EACCES: exceptions.AccessDenied,
    errno.EPERM: exceptions.AccessDenied,
    errno.ECONNREFUSED: exceptions.NobodyListens,
    errno.ENOSPC: exceptions.NoSpace,
    errno.EDQUOT: exceptions.NoSpace,
    errno.EFBIG: exceptions.NoSpace,
    errno.ENOMEM: exceptions.NoSpace,
    errno.ENOTSOCK: exceptions.WrongObject,
    errno.ELOOP: exceptions.WrongObject,
    errno.ENOTDIR: exceptions.WrongObject,
    errno.ENXIO: exceptions.WrongObject,
    errno.EISDIR: exceptions.WrongObject,
}

_NO_ERRNO: tuple[type[Exception], ...] = (ssl.SSLError, socket.gaierror)
"""OSErrors whose `errno` is a number of another kind."""


def os_error(code: int, where: str, why: str = "") -> OSError:
    """The error for `code`; its text says what happened, to which object, and why or what would be right."""
    text = os.strerror(code)
    message = f"{where}: {why or text}"
    return _OS_ERRORS.get(code, OSError)(code, message)


def translate(error: OSError, where: str) -> Exception:
    """What the user should see instead of `error`, raised by a system call on the object called `where`.

    An error that names the object already is the one to see.
    """
    if isinstance(error, (exceptions.AipcError, *_NO_ERRNO)) or str(error.strerror).startswith(where):
        return error
    code = error.errno
    if code is None:
        return type(error)(f"{where}: {error}")
    if code in _BROKEN:
        return anyio.BrokenResourceError(f"{where}: {os.strerror(code)}")
    if code in _TOO_LARGE:
        return exceptions.MessageTooLarge(f"{where}: the message is larger than the kernel takes ({os.strerror(code)})")
    if code == errno.ETOOMANYREFS:
        return exceptions.LimitExceeded(f"{where}: more descriptors in transit than RLIMIT_NOFILE allows this user")
    if code == errno.EIDRM:
        return exceptions.ObjectRemoved(f"{where}: removed while in use")
    if code == errno.ERANGE:
        return exceptions.LimitExceeded(f"{where}: {os.strerror(code)}: over the kernel's limit for a semaphore's value")
    if code == errno.ENAMETOOLONG:
        return exceptions.AddressError(f"{where}: a part of the path is longer than the file system takes")
    return os_error(code, where)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """A block whose failed system calls are errors of the object called `where`."""
    try:
        yield
    except OSError as error:
        raise translate(error, where) from None
