"""POSIX message queues (mq_overview(7)).

On Linux a queue's descriptor is a file descriptor, so the kernel reports readiness and nothing polls. Messages have a priority, 0
to 32,767: receiving takes the oldest of the highest. A queue has room for `max_messages` of up to `max_message_size` bytes, fixed
when it is made (10 of 8,192 by default). The queue and its messages outlive their processes; a removed queue lives on without a
name until every process has closed it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aipc._address import Address
from aipc._io.errors import translate
from aipc._io.handle import FileHandle, Handle
from aipc._io.waiter import Waiter
from aipc._sys.create_or_open import create_or_open
from aipc._sys.posix import queue as posix
from aipc._sys.posix.name import name_of
from aipc._texts.shown import Fact, counted
from aipc.abc import Buffer, ChannelAttribute, Message
from aipc.exceptions import InvalidMessage, LimitExceeded, MessageTooLarge, WrongObject
from aipc.wire.framing import as_bytes

from ..base import TransportChannel
from ..common_options import can_spin

_OVER_A_LIMIT = frozenset({errno.EINVAL, errno.EMFILE, errno.ENFILE, errno.ENOSPC})


class _QueueHandle(FileHandle):
    """Owns a queue's descriptor, and the queue's name if that is removed on close."""

    __slots__ = ("_unlink", "queue")

    def __init__(self, queue: posix.Queue, url: str, unlink: str | None) -> None:
        super().__init__(queue.fd, url)
        self.queue: posix.Queue = queue
        self._unlink = unlink

    def _close(self) -> None:
        super()._close()
        if self._unlink is not None:
            try:
                _remove(self._unlink, self.queue.shape)
            except OSError as error:
                raise translate(error, self.name) from None

    def _release(self, fd: int) -> None:
        self.queue.close()


def _remove(name: str, ours: os.stat_result) -> None:
    """Remove the name, if it still belongs to that queue."""
    try:
        now = posix.attach(name)
    except FileNotFoundError:
        return
    try:
        if os.path.samestat(now.shape, ours):
            now.unlink()
    finally:
        now.close()


class PosixQueueChannel(TransportChannel):
    """A POSIX queue, in both directions: any process that has the queue open may receive what another one sends.

    If its permissions allow this process only one direction, the channel has only that one.
    """

    SEND_OPTIONS = frozenset({"priority"})

    __slots__ = ("_handle", "_priority", "_queue")

    def __init__(self, handle: _QueueHandle, priority: int) -> None:
        super().__init__(handle.readable if handle.queue.may_receive else None)
        self._handle = handle
        self._queue = handle.queue
        self._priority = priority

    def _handles(self) -> Iterable[Handle]:
        return (self._handle,)

    def _open_outgoing(self) -> Waiter | None:
        return self._handle.writable if self._queue.may_send else None

    def _put(self, item: Buffer, priority: int | None = None) -> None:
        if self._handle.closed:
            self._handle.check()
        item = as_bytes(item)
        if len(item) > self._queue.max_message_size:
            raise MessageTooLarge(
                f"{self._name}: a message of {len(item):,} bytes; this queue takes {self._queue.max_message_size:,} "
                "(its max_message_size)"
            )
        if priority is None:
            priority = self._priority
        if not 0 <= priority <= posix.LARGEST_PRIORITY:
            raise InvalidMessage(f"{self._name}: priority={priority}: must be from 0 to {posix.LARGEST_PRIORITY:,}")
        self._queue.send(item, priority)
        self._sent += 1
        self._bytes_sent += len(item)

    def _pull(self) -> tuple[bytes, int]:
        if self._handle.closed:
            self._handle.check()
        received = self._queue.receive()
        self._received += 1
        self._bytes_received += len(received[0])
        return received

    def _take(self) -> bytes:
        return self._pull()[0]

    def _take_message(self) -> Message:
        data, priority = self._pull()
        return Message(data, priority=priority)

    def _facts(self) -> Iterator[Fact]:
        yield from super()._facts()
        yield lambda: counted(self._handle.call(self._queue.messages), "message") or "empty"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.max_message_size: lambda: self._queue.max_message_size,
            ChannelAttribute.max_messages: lambda: self._queue.max_messages,
            ChannelAttribute.messages: lambda: self._handle.call(self._queue.messages),
        }


@can_spin
async def connect(
    address: Address,
    *,
    create: bool = False,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool = False,
    priority: int = 0,
    max_messages: int | None = None,
    max_message_size: int | None = None,
) -> PosixQueueChannel:
    """Open a queue. ObjectMissing if there is none (unless `create`), ObjectExists with `exclusive` if there is one.

    `exclusive` also creates. `max_messages` and `max_message_size` (bytes) are for a new queue; an existing queue with other
    values is WrongObject. LimitExceeded if the kernel allows no such queue, or no more queues; the text names the limits.
    `priority` is the default of `send`. `unlink` removes the queue on close, if the name still belongs to it.
    """
    name = name_of(address, posix.LONGEST_NAME)
    if priority > posix.LARGEST_PRIORITY:
        raise address.error(f"priority={priority}: must be from 0 to {posix.LARGEST_PRIORITY:,}")
    wanted = {"max_messages": max_messages, "max_message_size": max_message_size}
    try:
        queue = _open(address, name, create, exclusive, mode, wanted)
    except OSError as error:
        raise translate(error, address.url) from None
    handle = _QueueHandle(queue, address.url, name if unlink else None)
    return PosixQueueChannel(handle, priority)


def _open(
    address: Address, name: str, create: bool, exclusive: bool, mode: int, wanted: Mapping[str, int | None]
) -> posix.Queue:
    return create_or_open(
        (lambda: _create(address, name, mode, wanted)) if create or exclusive else None,
        lambda: _agreeing(address, posix.attach(name), wanted),
        exclusive=exclusive,
    )[0]


def _create(address: Address, name: str, mode: int, wanted: Mapping[str, int | None]) -> posix.Queue:
    try:
        return posix.create(name, mode, **wanted)
    except OSError as error:
        if error.errno in _OVER_A_LIMIT and posix.limit("msg_max") is not None:  # otherwise no descriptor is left
            raise _over_a_limit(address, error.errno, wanted) from None
        raise


def _over_a_limit(address: Address, code: int, wanted: Mapping[str, int | None]) -> LimitExceeded:
    asked = ", ".join(f"{option}={value:,}" for option, value in wanted.items() if value is not None)
    refused = f"no queue with {asked}" if asked else "no further queue"
    return LimitExceeded(code, f"{address.url}: the kernel makes {refused}: {posix.limits()} ({os.strerror(code)})")


def _agreeing(address: Address, queue: posix.Queue, wanted: Mapping[str, int | None]) -> posix.Queue:
    for option, value in wanted.items():
        there = getattr(queue, option)
        if value not in (None, there):
            queue.close()
            raise WrongObject(
                errno.EINVAL, f"{address.url}: the queue exists with {option}={there:,}, not {value:,}; it can't be changed"
            )
    return queue
