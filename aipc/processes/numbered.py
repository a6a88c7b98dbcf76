"""Numbered messages between a pool and its worker: each message begins with a number.

A request has a number from 1 up, and its answer has the same number. So a pool matches answers and never counts them, whatever
was cancelled. All other messages have the number 0: those that `worker.channel` sends, and those that the function sends when
there is no request to answer.

The function answers each request with one message, and a pool sends a worker one request at a time. So the worker's end only
remembers the number of the last request that the function received and did not answer.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import anyio

from aipc._io import fork
from aipc._sys import rights
from aipc.abc import Buffer, Channel, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.transports.base import TransportChannel
from aipc.wire.framing import LONG, as_bytes

from .changes import Changes

NUMBER = struct.Struct("<Q")
SIZE: int = NUMBER.size
"""Length of the number in front of each message, in bytes."""
MOST_UNASKED = 1_000
"""The number of messages that a worker may send unasked before one is received."""


class NumberedChannel(Channel):
    """A channel over another channel; it puts a number in front of each message."""

    def __init__(self, transport: TransportChannel) -> None:
        self._transport = transport

    @property
    def _name(self) -> str:
        return self._transport._name

    @abstractmethod
    def _number(self) -> int:
        """Return the number of the next message to send."""

    def _unsent(self, number: int) -> None:
        """Note that the message with that number was perhaps not sent."""

    def _seal(self, number: int, item: Buffer) -> bytes:
        item = as_bytes(item)
        size = len(item)
        if size >= LONG and size > (limit := self.extra(ChannelAttribute.max_message_size)):
            raise MessageTooLarge(f"{self._name}: a message of {size:,} bytes; max_message_size is {limit:,}")
        return b"".join((NUMBER.pack(number), item))

    async def send(self, item: Buffer, **meta: Any) -> None:
        number = self._number()
        try:
            await self._transport.send(self._seal(number, item), **meta)
        except BaseException:
            self._unsent(number)
            raise

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        number = self._number()
        try:
            self._transport.send_nowait(self._seal(number, item), **meta)
        except BaseException:
            self._unsent(number)
            raise

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        before = self._transport.statistics().messages_sent
        numbers: set[int] = set()
        try:
            await self._transport.send_many(self._sealed(items, numbers), **meta)
        except BaseException:
            if self._transport.statistics().messages_sent == before:
                self._unsent(max(numbers, default=0))
            raise

    def _sealed(self, items: Iterable[Buffer], numbers: set[int]) -> Iterator[bytes]:
        for item in items:
            number = self._number()
            numbers.add(number)
            yield self._seal(number, item)

    def _number_in(self, data: Buffer) -> int:
        """Return the number in front of a received message. ProtocolError if there is none."""
        if len(data) < SIZE:
            raise ProtocolError(f"{self._name}: a message of {len(data)} bytes, where a number of {SIZE} comes first")
        number: int = NUMBER.unpack_from(data)[0]
        return number

    async def send_eof(self) -> None:
        await self._transport.send_eof()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def statistics(self) -> ChannelStatistics:
        return self._transport.statistics()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        inner: Mapping[Any, Callable[[], Any]] = self._transport.extra_attributes
        limit = inner[ChannelAttribute.max_message_size]
        return {**inner, ChannelAttribute.max_message_size: lambda: limit() - SIZE}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"


class AnsweringChannel(NumberedChannel):
    """The worker's end. Its function uses it like any other channel."""

    def __init__(self, transport: TransportChannel) -> None:
        super().__init__(transport)
        self._unanswered = 0

    def _number(self) -> int:
        number, self._unanswered = self._unanswered, 0
        return number

    def _unsent(self, number: int) -> None:
        # If the message was sent after all, because sending had begun, the next message becomes a second answer, which the
        # parent drops. Otherwise the request would never be answered.
        self._unanswered = self._unanswered or number

    def _note(self, data: Buffer) -> None:
        """Remember the request that the function received."""
        self._unanswered = self._number_in(data) or self._unanswered

    def _received(self, data: bytes) -> bytes:
        self._note(data)
        return data[SIZE:]

    async def receive(self, **selection: Any) -> bytes:
        return self._received(await self._transport.receive(**selection))

    def receive_nowait(self, **selection: Any) -> bytes:
        return self._received(self._transport.receive_nowait(**selection))

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        return [self._received(data) for data in await self._transport.receive_many(max_messages, **selection)]

    async def receive_message(self, **selection: Any) -> Message:
        message = await self._transport.receive_message(**selection)
        return message._replace(data=self._received(message.data))


class AskingChannel(NumberedChannel):
    """The parent's end: requests and answers, beside messages that belong to no request.

    The task that reads passes on what belongs to another task: an answer to `answer`, everything else to `receive`.
    """

    def __init__(self, transport: TransportChannel) -> None:
        super().__init__(transport)
        self._requests = 0
        self._awaited = 0  # the number of the request that is not answered yet
        self._answer: bytes | None = None
        self._unasked: deque[Message] = deque()
        self._error: Exception | None = None
        self._reading = False
        self._changes = Changes()
        self._generation = fork.generation

    def _number(self) -> int:
        return 0

    async def ask(self, data: Buffer) -> None:
        """Send a request. Cancelled or refused: certainly nothing was sent.

        Returns as soon as the first part was sent: the rest follows, and cannot be taken back.
        """
        self._requests += 1
        self._awaited, self._answer = self._requests, None
        await TransportChannel.send(self._transport, self._seal(self._requests, data))

    async def answer(self) -> bytes:
        """Return the answer to the last request; answers to earlier ones are dropped. Cancelled: the answer still comes."""
        await self._read(lambda: self._answer is not None)
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    async def _read(self, enough: Callable[[], object], **selection: Any) -> None:
        """Receive until `enough()` is true, or wait while another task receives."""
        fork.check(self._generation, self._name)
        while not enough():
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._reading:
                await self._changes.until(lambda: not self._reading or enough())
                continue
            self._reading = True
            try:
                message = await self._transport.receive_message(**selection)
            finally:
                self._reading = False
                self._changes.tell()
            self._sort(message)

    def _sort(self, message: Message) -> None:
        """Keep the expected answer, or a message that answers no request. Anything else is ProtocolError, from now on for every task."""
        try:
            number = self._number_in(message.data)
            if not number and len(self._unasked) >= MOST_UNASKED:
                raise ProtocolError(f"{self._name}: {MOST_UNASKED:,} messages that answer no request wait to be received")
        except ProtocolError as error:
            self._error = error
            rights.close(message.fds)
            raise
        data = message.data[SIZE:]
        if not number:
            self._unasked.append(message._replace(data=data))
            return
        rights.close(message.fds)
        if number == self._awaited:
            self._answer, self._awaited = data, 0

    async def receive(self, **selection: Any) -> bytes:
        await self._read(lambda: self._unasked, **selection)
        return self._taken()

    def receive_nowait(self, **selection: Any) -> bytes:
        fork.check(self._generation, self._name)
        while not self._unasked:
            if self._reading:  # that task gets the next message, and passes it on
                raise anyio.WouldBlock
            self._sort(Message(self._transport.receive_nowait(**selection)))
        return self._taken()

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        messages = [await self.receive(**selection)]
        while len(messages) < (max_messages or MOST_UNASKED):
            try:
                messages.append(self.receive_nowait(**selection))
            except Exception:  # noqa: BLE001 - the next call raises it again; these messages come first
                break
        return messages

    async def receive_message(self, **selection: Any) -> Message:
        await self._read(lambda: self._unasked, **selection)
        return self._unasked.popleft()

    def _taken(self) -> bytes:
        message = self._unasked.popleft()
        rights.close(message.fds)
        return message.data

    async def aclose(self) -> None:
        await super().aclose()
        while self._unasked:
            self._taken()
