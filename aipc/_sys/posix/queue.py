"""POSIX message queues (mq_open(3), mq_send(3), mq_receive(3)): posix_ipc's, with errno in place of its own errors.

A call of posix_ipc costs half as much as one through ctypes.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import posix_ipc

from .failures import FAILURES, failed

LARGEST_PRIORITY = 32_767
LONGEST_NAME = 255
_LIMITS = Path("/proc/sys/fs/mqueue")
_ACCESSES = ((True, True), (True, False), (False, True))


def limit(name: str) -> int | None:
    """Return a limit of this IPC namespace (mq_overview(7)): `msg_max`, `msgsize_max`, `queues_max`, or the defaults."""
    try:
        return int((_LIMITS / name).read_text())
    except OSError:
        return None


def limits() -> str:
    """Describe the kernel's present limits, for an error's text."""
    names = "msg_max", "msgsize_max", "queues_max"
    memory = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[0]
    bytes_allowed = "unlimited" if memory == resource.RLIM_INFINITY else f"{memory:,} bytes for all of a user's queues"
    return ", ".join([*(f"{_LIMITS / name} is {limit(name)}" for name in names), f"RLIMIT_MSGQUEUE is {bytes_allowed}"])


class Queue:
    """One queue. The owner of `fd` makes it non-blocking. Every error is an OSError with the errno of the system call."""

    __slots__ = ("_queue", "_receive", "_send", "fd", "max_message_size", "max_messages", "may_receive", "may_send", "shape")

    def __init__(self, queue: Any, access: tuple[bool, bool]) -> None:
        self._queue = queue
        self.fd: int = queue.mqd
        self.may_receive: bool = access[0]
        self.may_send: bool = access[1]
        self.max_messages: int = queue.max_messages
        self.max_message_size: int = queue.max_message_size
        self.shape: os.stat_result = os.fstat(self.fd)
        self._send = queue.send
        self._receive = queue.receive

    def send(self, data: bytes | bytearray | memoryview, priority: int) -> None:
        """mq_send(3)."""
        try:
            self._send(data, None, priority)
        except posix_ipc.BusyError:
            raise BlockingIOError from None
        except (posix_ipc.Error, ValueError) as error:
            raise failed(error) from None

    def receive(self) -> tuple[bytes, int]:
        """mq_receive(3): return the oldest message of the highest priority, and that priority."""
        try:
            message: tuple[bytes, int] = self._receive()
        except posix_ipc.BusyError:
            raise BlockingIOError from None
        except (posix_ipc.Error, ValueError) as error:
            raise failed(error) from None
        return message

    def messages(self) -> int:
        """The number of messages in the queue now (mq_getattr(3))."""
        return int(self._queue.current_messages)

    def close(self) -> None:
        """mq_close(3); the queue stays."""
        self._queue.close()

    def unlink(self) -> None:
        """mq_unlink(3): remove the name. Processes that have the queue open keep it."""
        try:
            self._queue.unlink()
        except posix_ipc.Error as error:
            raise failed(error) from None


def create(name: str, mode: int, max_messages: int | None, max_message_size: int | None) -> Queue:
    """Create a queue, for both directions, with exactly `mode`, whatever the umask. FileExistsError if there is one.

    Without attributes it has the namespace's defaults.
    """
    if max_messages is None:
        max_messages = _default("msg_default", "msg_max", posix_ipc.QUEUE_MESSAGES_MAX_DEFAULT)
    if max_message_size is None:
        max_message_size = _default("msgsize_default", "msgsize_max", posix_ipc.QUEUE_MESSAGE_SIZE_MAX_DEFAULT)
    attributes = {"max_messages": max_messages, "max_message_size": max_message_size}
    queue = Queue(_open(name, posix_ipc.O_CREX, mode=mode, **attributes), (True, True))
    try:
        os.fchmod(queue.fd, mode)
    except BaseException:
        queue.unlink()
        queue.close()
        raise
    return queue


def _default(name: str, most: str, otherwise: int) -> int:
    return min(value for value in (limit(name) or otherwise, limit(most)) if value is not None)


def attach(name: str) -> Queue:
    """Open an existing queue for both directions, or for the one that its permissions allow."""
    for access in _ACCESSES:
        try:
            return Queue(_open(name, 0, read=access[0], write=access[1]), access)
        except PermissionError as error:
            denied = error
    raise denied


def _open(name: str, flags: int, **options: Any) -> Any:
    try:
        return posix_ipc.MessageQueue(name, flags, **options)
    except FAILURES as error:
        raise failed(error, errno.EEXIST if flags else errno.ENOENT) from None
