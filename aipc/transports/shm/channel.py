"""Messages through a pair of rings in shared memory; a Unix socket is the doorbell, and tells the peer's end.

A send is a copy and two stores, and so is a receive. Only a peer that sleeps is woken by the doorbell. `wire.ring` has the layout.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any

import anyio

from aipc._io import fork
from aipc._io.waiter import Waiter
from aipc.abc import Buffer, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import MessageTooLarge
from aipc.wire.framing import MAX_MESSAGE_SIZE, Frame, Raw
from aipc.wire.ring import DEFAULT

from ..frame_sender import FrameSender
from ..nameless import Nameless
from ..unix import address as unix_address
from .handle import RingHandle

_BATCH = 64  # messages that are published as one


class RingChannel(FrameSender):
    """Messages through shared memory, to one other process."""

    __slots__ = ("_consumer", "_fast_limit", "_handle", "_producer")

    def __init__(self, handle: RingHandle, max_message_size: int) -> None:
        super().__init__(handle.readable, handle, Raw(max_message_size))
        self._handle = handle
        self._producer = handle.producer
        self._consumer = handle.consumer
        self._outgoing: Waiter = handle.writable
        self._fast_limit = -1  # the longest message that goes the quick way; -1 while none may

    def _handles(self) -> tuple[RingHandle]:
        return (self._handle,)

    def _open_outgoing(self) -> Waiter:
        return self._handle.writable

    async def send(self, item: Buffer, **meta: Any) -> None:
        outgoing = self._outgoing
        if (
            type(item) is bytes
            and len(item) <= self._fast_limit
            and not meta
            and outgoing.budget > 0
            and outgoing._generation == fork.generation
        ):
            outgoing.budget -= 1  # as `try_now`; a call would cost a tenth of the message
            try:
                self._producer.put(item)
            except OSError:
                pass  # the long way waits, or words the error
            else:
                self._sent += 1
                return
        await super().send(item, **meta)
        if self._unfinished is None and not self._output_ended:
            self._fast_limit = min(self._producer.largest, self._framing.limit)

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        waiting, left = self._writing(meta), iter(items)
        refused = None
        while refused is None:
            batch: list[Buffer] = []
            try:
                batch.extend(islice(left, _BATCH))
            except Exception as error:  # noqa: BLE001 - the items before it go first, then it is raised
                refused = error
            if not batch:
                break
            quick = await waiting.attempt(self._producer.put_many, batch, self._fast_limit) if self._fast_limit >= 0 else 0
            self._sent += quick
            for item in batch[quick:]:
                await self.send(item)
        if refused is not None:
            raise refused

    def _write(self, frame: Frame, frames: Sequence[Frame] = (), fds: Sequence[int] = ()) -> None:
        self._fast_limit = -1  # nothing may overtake what this may leave unfinished, nor follow the end
        if self._handle.drain_doorbell():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        super()._write(frame, frames, fds)

    def _push(self, frame: Frame | Any) -> int:
        item = frame if isinstance(frame, bytes) else frame[0]
        return self._producer.put_part(item if len(item) <= self._producer.largest else memoryview(item))

    def _end_writing(self) -> None:
        super()._end_writing()
        self._fast_limit = -1

    async def receive(self, **selection: Any) -> bytes:
        if not selection:
            try:
                readable = self._handle.readable
                if readable.poll_briefly():
                    message = self._consumer.take()
                    self._received += 1
                    if readable._first is not None:  # as after every success; a call would cost a tenth of the message
                        readable.wake()
                    return message
            except OSError:
                pass  # the long way waits, or words the error
        return await self._reading(selection).attempt(self._take)

    def _take(self) -> bytes:
        message = self._consumer.take()
        self._received += 1
        return message

    def _take_message(self) -> Message:
        return Message(self._take())

    async def peek(self) -> bytes:
        return await self._reading({}).attempt(self._consumer.peek)

    def _take_many(self, most: int | None) -> list[bytes]:
        messages = self._consumer.take_many(most)
        self._received += len(messages)
        return messages

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._producer.position, self._consumer.position)

    def loan(self, size: int) -> AbstractAsyncContextManager[memoryview]:
        """Room in the ring for a message of exactly `size` bytes, to write it there: `async with channel.loan(size) as view`.

        Leaving the block sends it; leaving by an exception does not. Other sends wait meanwhile. MessageTooLarge for more than
        half of the ring, less 8 bytes. BufferError, and nothing is sent, if an array of numpy, or the like, still uses the view. Cancelled while it waits for room: nothing was taken.
        """
        return _Lease(self._handle, partial(self._writing({}).attempt, self._lend, size), self._take_back)

    def receive_view(self) -> AbstractAsyncContextManager[memoryview]:
        """The next message where it stands in the ring: `async with channel.receive_view() as view`.

        Entering the block takes the message, leaving it frees the room; other receives wait meanwhile. The peer can still change
        what is in it: copy, then check. A message that came in parts is copied. BufferError at the end of the block if an array of numpy, or the like, still uses the view. Cancelled while it waits: nothing was consumed.
        """
        return _Lease(self._handle, partial(self._reading({}).attempt, self._show), self._free)

    def _lend(self, size: int) -> memoryview:
        if self._output_ended:
            raise anyio.ClosedResourceError(f"{self._name}: send_eof was called")
        if self._unfinished is not None:
            self._flush(self._unfinished)
        if self._handle.memory is None:
            self._handle.meet()
        largest = min(self._framing.limit, self._producer.largest)
        if not 0 <= size <= largest:
            raise MessageTooLarge(
                f"{self._name}: a loan of {size:,} bytes; at most {largest:,} stand in this ring in one piece"
            )
        if self._handle.drain_doorbell():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return self._handle.view(*self._producer.reserve(size))

    def _take_back(self, view: memoryview, good: bool) -> None:
        size = len(view)
        try:
            self._handle.check()
            view.release()
        except BaseException:
            good = False
            raise
        finally:
            if good:
                self._producer.publish(size)
                self._sent += 1
            else:
                self._producer.give_up()

    def _show(self) -> memoryview:
        shown = self._consumer.show()
        if shown is None:
            return memoryview(self._take())
        self._received += 1
        return self._handle.view(*shown)

    def _free(self, view: memoryview, good: bool) -> None:
        if not (self._handle.closed or self._handle.forked):
            self._consumer.free()
        view.release()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.peer_credentials: lambda: self._asked(unix_address.credentials),
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
        }

    def _asked(self, question: Callable[[socket.socket], Any]) -> Any:
        try:
            return question(self._handle.socket())
        except OSError as error:
            raise self._handle.explain(error) from error


class _Lease:
    """A view of the ring for a block. `take` gives it, `give_back` ends it; then tasks that wait for the place try again."""

    __slots__ = ("_give_back", "_handle", "_take", "_view")

    def __init__(
        self, handle: RingHandle, take: Callable[[], Awaitable[memoryview]], give_back: Callable[[memoryview, bool], None]
    ) -> None:
        self._handle = handle
        self._take = take
        self._give_back = give_back

    async def __aenter__(self) -> memoryview:
        self._view = await self._take()
        return self._view

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._give_back(self._view, kind is None)
        except OSError as failed:
            if kind is None:
                raise self._handle.explain(failed) from failed
        except BufferError as failed:
            if kind is None:
                raise BufferError(
                    f"{self._handle.name}: something made of the view is still in use at the block's end"
                ) from failed
        finally:
            self._handle.readable.wake_all()


def pair(capacity: int = DEFAULT, max_message_size: int = MAX_MESSAGE_SIZE) -> tuple[RingChannel, RingChannel]:
    """Two connected channels in this process."""
    ours, theirs = (_PairHandle(sock, "shm pair", sends, max_message_size) for sends, sock in enumerate(socket.socketpair()))
    try:
        ours.offer(capacity)
        theirs.meet()
        ours.wake_all()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return RingChannel(ours, max_message_size), RingChannel(theirs, max_message_size)


class _PairHandle(Nameless, RingHandle):
    __slots__ = ()
