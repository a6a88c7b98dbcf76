"""Messages through a pair of rings in shared memory; a Unix socket is the doorbell, and tells the peer's end.

A send is a copy and two stores, a receive the same; the doorbell is rung only for a peer that sleeps. `wire.ring` has the layout.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Any, cast

import anyio

from aipc._io.handle import SocketHandle
from aipc._io.ring_waiting import Records, Room
from aipc._sys import membarrier, memfd, rights
from aipc.abc import Buffer, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.wire.framing import MAX_MESSAGE_SIZE, Frame, Raw
from aipc.wire.ring import DEFAULT, LARGEST, Consumer, Producer, capacity_of, memory_size

from . import unix_address
from .byte_stream import ByteStreamChannel

HELLO = b"aipcshm1"
_DRAIN = 4096


class RingHandle(SocketHandle):
    """Owns the doorbell's socket and the mapping."""

    __slots__ = ("_words", "consumer", "gone", "memory", "producer")

    def __init__(self, sock: socket.socket, name: str, sends: int, limit: int, window: int = LARGEST) -> None:
        super().__init__(sock, name)
        self.memory: mmap.mmap | None = None
        self.gone: bool = False
        barrier = None if membarrier.in_order() else membarrier.here
        self.producer: Producer = Producer(sends, self, barrier, window)
        self.consumer: Consumer = Consumer(1 - sends, self, barrier, limit)
        records = Records(self, self.fd, self.consumer)
        self.readable = records
        self._writable = Room(self, self.producer, records)

    def attach(self, fd: int) -> None:
        """Map the memory behind `fd`, which is closed, and work in it. WrongObject, ProtocolError: it can't be trusted."""
        try:
            size = memfd.check(fd)
            capacity_of(size)
            self.memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._words = memoryview(self.memory).cast("Q")
        self.producer.attach(self.memory, self._words)
        self.consumer.attach(self.memory, self._words)
        if membarrier.registered():
            self.producer.register()

    def offer(self, capacity: int) -> None:
        """Make the memory, and show it to the peer."""
        fd = memfd.create("aipc ring", memory_size(capacity))
        try:
            rights.send(self.socket(), [HELLO], [fd])
        except BaseException:
            os.close(fd)
            raise
        self.attach(fd)

    def meet(self) -> None:
        """Take the memory that the peer offers. BlockingIOError: it has not done so yet. ProtocolError: it will not."""
        received = rights.receive(self.socket(), len(HELLO))
        if received.data == HELLO and len(received.fds) == 1:
            self.attach(received.fds[0])
            return
        rights.close(received.fds)
        said = f"said {received.data!r} with {len(received.fds)} descriptors" if received.data else "hung up"
        raise ProtocolError(f"{self.name}: the peer {said}, where {HELLO!r} with one belongs")

    def view(self, start: int, end: int) -> memoryview:
        """A part of the memory."""
        return memoryview(cast("mmap.mmap", self.memory))[start:end]

    def ring(self) -> None:
        """Wake the peer: one byte to its socket, unless it has many there already."""
        try:
            self.socket().send(b"\0", socket.MSG_NOSIGNAL)
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def hung_up(self) -> bool:
        """Drain the doorbell, on behalf of all who wait for it: whether the peer has closed its end."""
        drained = False
        while not self.gone and self.memory is not None:
            try:
                self.gone = not self.socket().recv(_DRAIN)
                drained = True
            except BlockingIOError:
                break
            except ConnectionError:
                self.gone = True
        if drained:
            self.readable.rouse()
        return self.gone

    def end_writing(self) -> None:
        """A mark in the ring: the doorbell must go on working."""
        self.producer.end()

    def _close(self) -> None:
        self.producer.close()
        self.consumer.close()
        super()._close()
        if self.memory is not None:
            self._words.release()
            with suppress(BufferError):  # a view is still out: the mapping goes with it
                self.memory.close()


class RingChannel(ByteStreamChannel):
    """Messages through shared memory, to one other process."""

    __slots__ = ("_consumer", "_handle", "_loaned", "_producer", "_short")

    def __init__(self, handle: RingHandle, max_message_size: int) -> None:
        super().__init__(handle, handle, Raw(max_message_size))
        self._handle = handle
        self._producer = handle.producer
        self._consumer = handle.consumer
        self._outgoing = handle.writable
        self._loaned = -1  # where the room that is lent begins
        self._short = -1  # the longest message that goes the quick way

    async def send(self, item: Buffer, **meta: Any) -> None:
        waiting = self._outgoing
        if type(item) is bytes and len(item) <= self._short and not meta and self._unfinished is None and waiting is not None:
            try:
                waiting.spend()
                if self._loaned < 0 and not self._output_ended:
                    self._producer.put(item)
                    return
            except OSError:
                pass  # the long way waits, or words the error
        await super().send(item, **meta)
        self._short = min(self._producer.largest, self._framing.limit)

    def _push(self, frame: Frame | Any) -> int:
        if self._loaned >= 0:
            raise BlockingIOError
        item = frame if isinstance(frame, bytes) else frame[0]
        return self._producer.put_part(item if len(item) <= self._producer.largest else memoryview(item))

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        waiting, put, short = self._writing(meta), self._producer.put, self._short
        for item in items:
            if (
                type(item) is not bytes
                or len(item) > short
                or self._unfinished is not None
                or self._loaned >= 0
                or self._output_ended
            ):
                await self.send(item)
                continue
            try:
                waiting.spend()
                put(item)
            except OSError:
                await waiting.attempt(self._write, item)

    def receive(self, **selection: Any) -> Coroutine[Any, Any, bytes]:
        waiting = self._reading(selection) if selection else self._handle.readable
        return waiting.attempt(self._consumer.take)

    def _take(self) -> bytes:
        return self._consumer.take()

    def _take_message(self) -> Message:
        return Message(self._consumer.take())

    def _take_many(self, most: int | None) -> list[bytes]:
        return self._consumer.take_many(most)

    def statistics(self) -> ChannelStatistics:
        ours, theirs = self._producer, self._consumer
        return ChannelStatistics(ours.messages, theirs.messages, ours.position, theirs.position)

    def loan(self, size: int) -> AbstractAsyncContextManager[memoryview]:
        """Room in the ring for a message of exactly `size` bytes, to write it there: `async with channel.loan(size) as view`.

        Leaving the block sends it; leaving by an exception does not. Other sends wait meanwhile. MessageTooLarge for more than
        half of the ring, less 8 bytes. Cancelled while it waits for room: nothing was taken.
        """
        largest = min(self._framing.limit, self._producer.largest)
        if not 0 <= size <= largest:
            raise MessageTooLarge(
                f"{self._name}: a loan of {size:,} bytes; at most {largest:,} stand in this ring in one piece"
            )
        return _Block(self._handle, partial(self._writing({}).attempt, self._lend, size), self._take_back)

    def receive_view(self) -> AbstractAsyncContextManager[memoryview]:
        """The next message where it stands in the ring: `async with channel.receive_view() as view`.

        Entering the block takes the message, leaving it frees the room; other receives wait meanwhile. The peer can still change
        what is in it: copy, then check. A message that came in parts is copied. Cancelled while it waits: nothing was consumed.
        """
        return _Block(self._handle, partial(self._reading({}).attempt, self._show), self._free)

    def _lend(self, size: int) -> memoryview:
        if self._loaned >= 0:
            raise BlockingIOError
        if self._output_ended:
            raise anyio.ClosedResourceError
        if self._unfinished is not None:
            self._flush(self._unfinished)
        start, end = self._producer.reserve(size)
        self._loaned = start
        return self._handle.view(start, end)

    def _take_back(self, view: memoryview, good: bool) -> None:
        start, self._loaned = self._loaned, -1
        size = len(view)
        view.release()
        if good:
            self._producer.publish(start, size)

    def _show(self) -> memoryview:
        shown = self._consumer.show()
        return self._handle.view(*shown) if shown else memoryview(self._consumer.take())

    def _free(self, view: memoryview, good: bool) -> None:
        view.release()
        self._consumer.free()

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


class _Block:
    """A view of the ring for a block: `take` gives it, `give_back` ends it; others who wait for that place then try again."""

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
            raise self._handle.explain(failed) from failed
        finally:
            self._handle.readable.rouse()


def pair(capacity: int = DEFAULT, max_message_size: int = MAX_MESSAGE_SIZE) -> tuple[RingChannel, RingChannel]:
    """Two connected channels in this process."""
    ours, theirs = (RingHandle(sock, "shm pair", sends, max_message_size) for sends, sock in enumerate(socket.socketpair()))
    ours.offer(capacity)
    theirs.meet()
    return RingChannel(ours, max_message_size), RingChannel(theirs, max_message_size)
