"""System V message queues (msgop(2), msgctl(2)): what sysv_ipc has, with errno instead of its own errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import sysv_ipc


def longest_message() -> int:
    """The kernel's limit on a message, bytes (kernel.msgmax)."""
    try:
        return int(Path("/proc/sys/kernel/msgmax").read_text())
    except OSError:
        return 8192


class Queue:
    """One queue, used without blocking. Every error is an OSError with the errno of the system call."""

    __slots__ = ("_queue", "_receive", "_send", "limit")

    def __init__(self, key: int | None, flags: int, mode: int) -> None:
        self.limit: int = longest_message()
        try:
            self._queue = sysv_ipc.MessageQueue(
                sysv_ipc.IPC_PRIVATE if key is None else key, flags, mode=mode, max_message_size=self.limit
            )
        except sysv_ipc.ExistentialError:
            code = errno.EEXIST if flags == sysv_ipc.IPC_CREX else errno.ENOENT
            raise OSError(code, os.strerror(code)) from None
        except sysv_ipc.PermissionsError:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES)) from None
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
        """msgrcv(2) with IPC_NOWAIT: the message and its type."""
        try:
            message: tuple[bytes, int] = self._receive(False, type)
        except sysv_ipc.BusyError:
            raise BlockingIOError from None
        except (sysv_ipc.Error, OSError) as error:
            raise _failed(error) from None
        return message

    def has_messages(self) -> bool:
        """Whether there are any, of whatever type; also true if the queue is gone, which a try then finds out."""
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

    def set_max_bytes(self, size: int) -> None:
        """How many bytes the queue holds (msg_qbytes); beyond kernel.msgmnb that takes CAP_SYS_RESOURCE."""
        try:
            self._queue.max_size = size
        except sysv_ipc.Error as error:
            raise _failed(error) from None

    def remove(self) -> None:
        """IPC_RMID, if nobody did that yet."""
        try:
            self._queue.remove()
        except sysv_ipc.ExistentialError:
            pass
        except sysv_ipc.Error as error:
            raise _failed(error) from None


def _failed(error: Exception) -> OSError:
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        return error
    # EINVAL: the queue was removed before this call.
    code = errno.EACCES if isinstance(error, sysv_ipc.PermissionsError) else errno.EIDRM
    return OSError(code, os.strerror(code))
