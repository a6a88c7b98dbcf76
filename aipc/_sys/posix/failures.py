"""posix_ipc's errors as errno."""

from __future__ import annotations

import errno
import os

import posix_ipc

FAILURES: tuple[type[Exception], ...] = (posix_ipc.Error, ValueError, OverflowError, MemoryError, OSError)
"""The errors that a call of posix_ipc may raise."""


def failed(error: Exception, missing: int = errno.ENOENT) -> OSError:
    """Return the OSError for `error`; `missing` is the errno of an ExistentialError."""
    if isinstance(error, OSError) and error.errno:
        return error
    code = _code(error, missing)
    return OSError(code, os.strerror(code))


def _code(error: Exception, missing: int) -> int:
    if isinstance(error, posix_ipc.PermissionsError):
        return errno.EACCES
    if isinstance(error, posix_ipc.ExistentialError):
        return missing
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):  # posix_ipc leaves the number out of these
        text = str(error)
        return errno.ENOSPC if "space" in text else errno.ENFILE if "system" in text else errno.EMFILE
    return errno.EINVAL
