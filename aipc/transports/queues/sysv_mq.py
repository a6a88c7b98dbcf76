"""System V message queues (sysvipc(7), msgop(2)).

They have no descriptor: a wait polls. Messages have a type, 1 or more, and receiving selects by it: 0 takes the first message,
n the first of type n, -n the first of the lowest type up to n; `except_type=n` takes the first of any other type. A message has at
most kernel.msgmax bytes (8,192 by default), a queue at most `max_bytes` (16,384 by default). The queue and its messages outlive
their processes.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import sysv_ipc

from aipc._address import Address
from aipc._io.errors import naming, os_error, translate
from aipc._io.handle import Handle
from aipc._io.polling import Polling, always
from aipc._sys.create_or_open import create_or_open
from aipc._sys.sysv.key import check_key, key_of, object_name
from aipc._sys.sysv.permissions import checked_change
from aipc._sys.sysv.queue import EXCEPT, NOERROR, Queue, SysVQueueStatus, longest_message
from aipc._texts.shown import Fact, counted
from aipc.abc import Buffer, ChannelAttribute, Message
from aipc.exceptions import InvalidMessage, MessageTooLarge
from aipc.wire.framing import as_bytes

from ..base import TransportChannel
from ..common_options import can_spin

_LARGEST_TYPE = sys.maxsize  # C's long


class _QueueHandle(Handle):
    """Owns a queue, waits for it by polling, and may remove it on close."""

    __slots__ = ("incoming", "outgoing", "queue", "unlink")

    def __init__(self, queue: Queue, name: str, unlink: bool) -> None:
        super().__init__(name)
        self.queue: Queue = queue
        self.unlink: bool = unlink
        called = object_name("queue", queue.id)
        self.incoming: Polling = Polling(self, queue.has_messages, f"{called} in", selective=True, probes=8)  # types
        self.outgoing: Polling = Polling(self, always, f"{called} out", selective=True)  # sizes

    def explain(self, error: OSError) -> Exception:
        if error.errno == errno.E2BIG and not self.closed:
            return MessageTooLarge(
                f"{self.name}: the first message is longer than max_message_size={self.queue.limit:,} bytes, and stays in the "
                "queue; truncate=True takes what fits of it, and drops the rest"
            )
        return super().explain(error)

    def _close(self) -> None:
        try:
            if self.unlink:
                self.remove()
        finally:
            self.incoming.close()
            self.outgoing.close()

    def remove(self) -> None:
        """Remove the queue; the waiting tasks of this process learn of it at once."""
        try:
            self.queue.remove()
        except OSError as error:
            raise translate(error, self.name) from None
        self.incoming.notify()
        self.outgoing.notify()


class SysVQueueChannel(TransportChannel):
    """A System V queue, in both directions: any process that has the queue open may receive what another one sends.

    `send` takes `type`. Receiving takes `type` or `except_type`, and `truncate=True` for a message over `max_message_size`.
    """

    SEND_OPTIONS = frozenset({"type"})
    RECEIVE_OPTIONS = frozenset({"type", "except_type", "truncate"})

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
                f"{self._name}: a message of {len(item):,} bytes; the limit (max_message_size, or kernel.msgmax) is "
                f"{self._queue.limit:,}"
            )
        if type is None:
            type = 1 if self._type is None else self._type
        if not 1 <= type <= _LARGEST_TYPE:
            raise InvalidMessage(f"{self._name}: type={type}: a message's type must be from 1 to {_LARGEST_TYPE:,}")
        self._queue.send(item, type)
        self._handle.incoming.notify()
        self._sent += 1
        self._bytes_sent += len(item)

    def _pull(self, type: int | None, special: Mapping[str, Any]) -> tuple[bytes, int]:
        if self._handle.closed:
            self._handle.check()
        flags = 0
        if special:
            type, flags = self._specially(type, **special)
        if type is None:
            type = self._type or 0
        if abs(type) > _LARGEST_TYPE:
            raise InvalidMessage(f"{self._name}: type={type}: no message has such a type; the largest is {_LARGEST_TYPE:,}")
        received = self._queue.receive_flagged(type, flags) if flags else self._queue.receive(type)
        self._handle.outgoing.notify()
        self._received += 1
        self._bytes_received += len(received[0])
        return received

    def _specially(self, type: int | None, except_type: int | None = None, truncate: bool = False) -> tuple[int | None, int]:
        """Return the type and the flags for msgrcv(2)."""
        flags = NOERROR if truncate else 0
        if except_type is None:
            return type, flags
        if type is not None or except_type < 1:
            raise InvalidMessage(
                f"{self._name}: except_type={except_type}: must be 1 or more, and needs no type, but type={type} is given"
            )
        return except_type, flags | EXCEPT

    def _take(self, type: int | None = None, **special: Any) -> bytes:
        return self._pull(type, special)[0][: self._queue.limit]

    def _take_message(self, type: int | None = None, **special: Any) -> Message:
        data, kind = self._pull(type, special)
        limit = self._queue.limit
        return Message(data[:limit], type=kind, truncated=len(data) > limit)

    def stat(self) -> SysVQueueStatus:
        """The queue's fill, last users and times, owner and mode. AccessDenied without read permission."""
        return self._handle.call(self._queue.stat)

    def change(
        self, *, mode: int | None = None, uid: int | None = None, gid: int | None = None, max_bytes: int | None = None
    ) -> None:
        """Change the given values, all at once (msgctl(2), IPC_SET). AccessDenied, unless this user owns the queue.

        `max_bytes` over kernel.msgmnb needs CAP_SYS_RESOURCE.
        """
        given = {"mode": mode, "uid": uid, "gid": gid, "max_bytes": max_bytes}
        for name, value in given.items():
            if value is not None and value < 0:
                raise ValueError(f"{self._name}: {name}={value}: must be 0 or more")
        checked_change(self._name, **given)
        self._handle.call(lambda: self._queue.change(**given))
        self._handle.outgoing.notify()  # there may be more room

    def remove(self) -> None:
        """Remove the queue with its messages, now: every waiter gets ObjectRemoved. A second call does nothing."""
        self._handle.call(self._handle.remove)

    def _facts(self) -> Iterator[Fact]:
        yield from super()._facts()
        yield lambda: counted(self.stat().qnum, "message") or "empty"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.identifier: lambda: self._queue.id,
            ChannelAttribute.key: lambda: self._queue.key,
            ChannelAttribute.max_message_size: lambda: self._queue.limit,
        }


check = check_key


@can_spin
async def connect(
    address: Address,
    *,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool | None = None,
    type: int | None = None,
    max_bytes: int | None = None,
    max_message_size: int | None = None,
    project: int | None = None,
) -> SysVQueueChannel:
    """Open a queue. ObjectMissing if there is none (unless `create`), ObjectExists with `exclusive` if there is one.

    `exclusive` also creates. `unlink` removes the queue on close: by default only a private one. `max_bytes` sets msg_qbytes;
    over kernel.msgmnb that is AccessDenied without CAP_SYS_RESOURCE. `max_message_size`, at most kernel.msgmax, is the longest
    message that this channel sends, and that it receives whole.
    """
    longest = longest_message()
    if max_message_size is not None and max_message_size > longest:
        raise address.error(f"max_message_size={max_message_size:,}: the kernel takes messages of {longest:,} (kernel.msgmax)")
    key = key_of(address, project)
    try:
        queue, made = _open(key, create, exclusive, mode, max_message_size or longest)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise os_error(errno.ENOSPC, address.url, "there are as many queues as the kernel allows (kernel.msgmni)") from None
        raise translate(error, address.url) from None
    try:
        if max_bytes is not None:
            with naming(f"{address.url} (max_bytes={max_bytes:,})"):
                queue.change(mode=None, uid=None, gid=None, max_bytes=max_bytes)
        handle = _QueueHandle(queue, address.url, key is None if unlink is None else unlink)
    except BaseException:
        if made:
            queue.remove()
        raise
    return SysVQueueChannel(handle, type)


def _open(key: int | None, create: bool, exclusive: bool, mode: int, longest: int) -> tuple[Queue, bool]:
    """Return the queue, and whether it is new."""
    creates = create or exclusive or key is None
    return create_or_open(
        (lambda: Queue(key, sysv_ipc.IPC_CREX, mode, longest)) if creates else None,
        lambda: Queue(key, 0, mode, longest),
        exclusive=exclusive,
    )
