"""System V message queues (sysvipc(7), msgop(2)).

They have no descriptor: a wait polls. Messages have a type, 1 or more; receiving selects by it: 0 takes the first message,
n the first of type n, -n the first of the lowest type up to n. A message is at most kernel.msgmax bytes (8,192 by default), a
queue holds `max_bytes` (16,384 by default). The queue and what is in it outlive their processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sysv_ipc

from aipc._address import Address
from aipc._io.errors import translate
from aipc._io.handle import Handle
from aipc._io.polling import Polling
from aipc._sys.sysv_key import key_of
from aipc._sys.sysv_queue import Queue
from aipc.abc import Buffer, ChannelAttribute, Message
from aipc.exceptions import InvalidMessage, MessageTooLarge
from aipc.wire.framing import as_bytes

from .base import TransportChannel

_LARGEST_TYPE = sys.maxsize  # C's long


class _QueueHandle(Handle):
    """Owns a queue: what to wait with, and whether to remove it on close."""

    __slots__ = ("incoming", "outgoing", "queue", "unlink")

    def __init__(self, queue: Queue, name: str, unlink: bool) -> None:
        super().__init__(name)
        self.queue: Queue = queue
        self.unlink: bool = unlink
        self.incoming: Polling = Polling(self, queue.has_messages)
        self.outgoing: Polling = Polling(self)

    def _close(self) -> None:
        self.incoming.close()
        self.outgoing.close()
        if self.unlink:
            try:
                self.queue.remove()
            except OSError as error:
                raise translate(error, self.name) from None


class SysVQueueChannel(TransportChannel):
    """A System V queue, both ways: what one process sends, any process that has the queue open may receive."""

    SEND_OPTIONS = RECEIVE_OPTIONS = frozenset({"type"})

    __slots__ = ("_handle", "_queue", "_type")

    def __init__(self, handle: _QueueHandle, type: int | None) -> None:
        super().__init__(handle.incoming)
        self._handle = handle
        self._queue = handle.queue
        self._type = type

    def _handles(self) -> Iterable[Handle]:
        return (self._handle,)

    def _open_outgoing(self) -> Polling:
        return self._handle.outgoing

    def _put(self, item: Buffer, type: int | None = None) -> None:
        if self._handle.closed:
            self._handle.check()
        item = as_bytes(item)
        if len(item) > self._queue.limit:
            raise MessageTooLarge(
                f"{self._name}: a message of {len(item):,} bytes; the kernel's limit (kernel.msgmax) is {self._queue.limit:,}"
            )
        if type is None:
            type = 1 if self._type is None else self._type
        if not 1 <= type <= _LARGEST_TYPE:
            raise InvalidMessage(f"{self._name}: type={type}: a message's type must be from 1 to {_LARGEST_TYPE:,}")
        self._queue.send(item, type)
        self._sent += 1
        self._bytes_sent += len(item)

    def _pull(self, type: int | None) -> tuple[bytes, int]:
        if self._handle.closed:
            self._handle.check()
        if type is None:
            type = self._type or 0
        if abs(type) > _LARGEST_TYPE:
            raise InvalidMessage(f"{self._name}: type={type}: no message has such a type; the largest is {_LARGEST_TYPE:,}")
        received = self._queue.receive(type)
        self._received += 1
        self._bytes_received += len(received[0])
        return received

    def _take(self, type: int | None = None) -> bytes:
        return self._pull(type)[0]

    def _take_message(self, type: int | None = None) -> Message:
        data, kind = self._pull(type)
        return Message(data, type=kind)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.identifier: lambda: self._queue.id,
            ChannelAttribute.key: lambda: self._queue.key,
            ChannelAttribute.max_message_size: lambda: self._queue.limit,
        }


async def connect(
    address: Address,
    *,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool | None = None,
    type: int | None = None,
    max_bytes: int | None = None,
    project: int | None = None,
) -> SysVQueueChannel:
    """Open a queue. ObjectMissing if there is none (unless `create`), ObjectExists if there is one and `exclusive`.

    `exclusive` creates, too. `unlink` removes the queue on close: by default only a private one. `max_bytes` sets msg_qbytes;
    beyond kernel.msgmnb that is AccessDenied without CAP_SYS_RESOURCE.
    """
    key = key_of(address, project)
    if key is None or exclusive:
        flags = sysv_ipc.IPC_CREX
    else:
        flags = sysv_ipc.IPC_CREAT if create else 0
    try:
        queue = Queue(key, flags, mode)
    except OSError as error:
        raise translate(error, address.url) from None
    handle = _QueueHandle(queue, address.url, key is None if unlink is None else unlink)
    if max_bytes is not None:
        try:
            queue.set_max_bytes(max_bytes)
        except OSError as error:
            if flags == sysv_ipc.IPC_CREX:
                queue.remove()
            raise translate(error, f"{address.url} (max_bytes={max_bytes:,})") from None
    return SysVQueueChannel(handle, type)
