"""System V message queues (msgop(2), msgctl(2)): sysv_ipc's, with errno instead of its own errors; the rest by ctypes.

The layout of msqid_ds is that of 64-bit Linux (asm-generic/msgbuf.h): a 32-bit Python cannot read it, whatever the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import NamedTuple

import sysv_ipc

from ..libc import last_error, libc
from .permissions import SET, STAT, Permissions, must_be_known

libc.msgrcv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int)
libc.msgrcv.restype = ctypes.c_ssize_t

NOERROR, EXCEPT = 0o10000, 0o20000
_NOWAIT = 0o4000
_TYPE = ctypes.sizeof(ctypes.c_long)


class _Status(ctypes.Structure):
    _fields_ = (
        ("perm", Permissions),
        *((name, ctypes.c_long) for name in ("stime", "rtime", "ctime")),
        *((name, ctypes.c_ulong) for name in ("cbytes", "qnum", "qbytes")),
        *((name, ctypes.c_int) for name in ("lspid", "lrpid")),
        ("reserved", ctypes.c_ulong * 2),
    )


class SysVQueueStatus(NamedTuple):
    """The kernel's data on a queue at one moment (msgctl(2)). Times are whole seconds since 1970; 0: never."""

    #: messages in the queue
    qnum: int
    #: bytes in the queue
    bytes: int
    #: bytes for which it has room (msg_qbytes)
    max_bytes: int
    #: the process that sent last; 0: none
    lspid: int
    #: the process that received last; 0: none
    lrpid: int
    #: the time of the last send
    stime: int
    #: the time of the last receive
    rtime: int
    #: the time of its creation or last change
    ctime: int
    #: its permission bits
    mode: int
    #: its owner
    uid: int
    #: its owner's group
    gid: int


def longest_message() -> int:
    """The kernel's limit for a message, in bytes (kernel.msgmax)."""
    try:
        return int(Path("/proc/sys/kernel/msgmax").read_text())
    except OSError:
        return 8192


class Queue:
    """One queue, used without blocking. Every error is an OSError with the errno of the system call.

    `limit` is the longest message that it receives: a longer one is E2BIG, and stays in the queue.
    """

    __slots__ = ("_queue", "_receive", "_send", "limit")

    def __init__(self, key: int | None, flags: int, mode: int, limit: int) -> None:
        self.limit: int = limit
        try:
            self._queue = sysv_ipc.MessageQueue(
                sysv_ipc.IPC_PRIVATE if key is None else key, flags, mode=mode, max_message_size=self.limit
            )
        except sysv_ipc.ExistentialError:
            code = errno.EEXIST if flags == sysv_ipc.IPC_CREX else errno.ENOENT
            raise OSError(code, os.strerror(code)) from None
        except sysv_ipc.PermissionsError:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES)) from None
        except MemoryError:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        except OSError as error:
            if error.errno:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None  # sysv_ipc gives no errno for it
        self._receive = self._queue.receive
        self._send = self._queue.send

    def send(self, data: bytes | bytearray | memoryview, type: int) -> None:
        """msgsnd(2) with IPC_NOWAIT."""
        try:
            self._send(data, False, type)
        except sysv_ipc.BusyError:
            raise BlockingIOError from None
        except (sysv_ipc.Error, OSError) as error:
            raise _failed(error) from None

    def receive(self, type: int) -> tuple[bytes, int]:
        """msgrcv(2) with IPC_NOWAIT: return the message and its type."""
        try:
            message: tuple[bytes, int] = self._receive(False, type)
        except sysv_ipc.BusyError:
            raise BlockingIOError from None
        except (sysv_ipc.Error, OSError) as error:
            raise _failed(error) from None
        return message

    def has_messages(self) -> bool:
        """Whether the queue has messages of any type. Also true if the queue is gone: the next receive reports that."""
        try:
            return bool(self._queue.current_messages)
        except sysv_ipc.Error:
            return True

    @property
    def id(self) -> int:
        """The kernel's number of the queue, as in `ipcs -q`."""
        return int(self._queue.id)

    @property
    def key(self) -> int:
        """The key; 0 for a private queue."""
        return int(self._queue.key or 0)

    def receive_flagged(self, type: int, flags: int) -> tuple[bytes, int]:
        """msgrcv(2) with EXCEPT, NOERROR or both, which sysv_ipc lacks.

        With NOERROR a message longer than `limit` is cut to one byte more than `limit`, so the caller can see that.
        """
        size = self.limit + bool(flags & NOERROR)
        buffer = ctypes.create_string_buffer(_TYPE + size)
        count = _checked(libc.msgrcv(self.id, buffer, size, type, flags | _NOWAIT))
        return buffer.raw[_TYPE : _TYPE + count], ctypes.c_long.from_buffer(buffer).value

    def _status(self) -> _Status:
        must_be_known(f"System V queue {self.id}")
        status = _Status()
        _checked(libc.msgctl(self.id, STAT, ctypes.byref(status)))
        return status

    def stat(self) -> SysVQueueStatus:
        """IPC_STAT."""
        s = self._status()
        counts = s.qnum, s.cbytes, s.qbytes, s.lspid, s.lrpid, s.stime, s.rtime, s.ctime
        return SysVQueueStatus(*counts, s.perm.mode & 0o777, s.perm.uid, s.perm.gid)

    def change(self, *, mode: int | None, uid: int | None, gid: int | None, max_bytes: int | None) -> None:
        """IPC_SET of the values that are not None. `max_bytes` over kernel.msgmnb needs CAP_SYS_RESOURCE."""
        status = self._status()
        status.perm.change(mode=mode, uid=uid, gid=gid)
        if max_bytes is not None:
            status.qbytes = max_bytes
        _checked(libc.msgctl(self.id, SET, ctypes.byref(status)))

    def remove(self) -> None:
        """IPC_RMID, unless it was removed already."""
        try:
            self._queue.remove()
        except sysv_ipc.ExistentialError:
            pass
        except sysv_ipc.Error as error:
            raise _failed(error) from None


def _checked(result: int) -> int:
    if result < 0:
        error = last_error()
        if error.errno == errno.ENOMSG:
            raise BlockingIOError
        raise _failed(error)
    return result


def _failed(error: Exception) -> OSError:
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        return error
    # EINVAL: the queue was removed before this call.
    code = errno.EACCES if isinstance(error, sysv_ipc.PermissionsError) else errno.EIDRM
    return OSError(code, os.strerror(code))
