"""Numbered messages between a pool and its worker: each message begins with a number.

A request has a number from 1 up, and its answer has the same number. So a pool matches answers and never counts them, whatever
was cancelled. All other messages have the number 0: those that `worker.channel` sends, and those that the function sends when
there is no request to answer.

A call (`Pool.run`) is a request whose number has the bit CALL: the worker's end runs it, and the function does not see it. The first
message of each end has the number CONTROL and no content: the worker has imported its function; the pool lets the function begin.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aipc._texts.shown import Fact, shown
from aipc.abc import Buffer, Channel, ChannelAttribute, ChannelStatistics
from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.transports.base import TransportChannel
from aipc.wire.framing import LONG, as_bytes

NUMBER = struct.Struct("<Q")
SIZE: int = NUMBER.size
"""Length of the number in front of each message, in bytes."""
CALL = 1 << 63
"""The bit in the number of a call and of its answer."""
CONTROL = (1 << 64) - 1
"""The number of the first message in each direction."""


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
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield from list(self._transport._facts())[1:]
