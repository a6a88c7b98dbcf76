"""A channel to a service that restarts: it connects again, and says that it had to."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import anyio

from aipc._io.loop import backend
from aipc._opening.openers import Opening, open_channel
from aipc._texts.shown import Fact, counted, shown
from aipc.abc import Buffer, Channel, ChannelStatistics, Message
from aipc.exceptions import Disconnected

if TYPE_CHECKING:
    from aipc._options import ChannelOptions

_logger = logging.getLogger("aipc")
Result = TypeVar("Result")

_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class ReconnectingChannel(Channel):
    """A channel whose calls raise Disconnected when its connection is lost, or ended by the peer; the next call connects again.

    Every call that was under way raises it. What any of them sent before may not have been received.

    connections     how many there were so far
    """

    def __init__(self, connect: Callable[[], Awaitable[Channel]]) -> None:
        self._connect = connect
        self._channel: Channel | None = None
        self._connecting = anyio.Lock()
        self._scope = anyio.CancelScope()
        self._closed = False
        self._earlier: tuple[int, ...] = (0, 0, 0, 0)  # what lost connections counted
        self.connections: int = 0

    async def connected(self) -> Channel:
        """The present connection; waits until there is one. Cancelled: nothing happened."""
        if self._channel is None:
            async with self._connecting:
                if self._channel is None:
                    await self._connect_again()
        assert self._channel is not None
        return self._channel

    async def _connect_again(self) -> None:
        self._check()
        with anyio.CancelScope() as self._scope:  # `aclose` cancels it
            self._channel = await self._connect()
            self.connections += 1
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    async def _try(self, call: Callable[[Channel], Awaitable[Result]]) -> Result:
        channel = await self.connected()
        try:
            return await call(channel)
        except _LOST as error:
            self._check()
            _logger.debug("%s: lost, and connected again at the next call: %s", type(self).__name__, error)
            await self._lose(channel)
            raise _disconnected(channel, error) from error

    def _try_nowait(self, call: Callable[[Channel], Result]) -> Result:
        self._check()
        channel = self._channel
        if channel is None:
            raise anyio.WouldBlock("not connected now; the call that is awaited waits for a connection")
        try:
            return call(channel)
        except _LOST as error:
            self._channel = None
            self._count(channel)
            backend.start_soon(channel.aclose)
            raise _disconnected(channel, error) from error

    async def _lose(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            self._count(channel)
        with anyio.CancelScope(shield=True):
            await channel.aclose()

    def _count(self, channel: Channel) -> None:
        self._earlier = tuple(map(sum, zip(self._earlier, _numbers(channel.statistics()), strict=True)))

    async def send(self, item: Buffer, **meta: Any) -> None:
        await self._try(lambda channel: channel.send(item, **meta))

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        self._try_nowait(lambda channel: channel.send_nowait(item, **meta))

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        await self._try(lambda channel: channel.send_many(items, **meta))

    async def receive(self, **selection: Any) -> bytes:
        return await self._try(lambda channel: channel.receive(**selection))

    def receive_nowait(self, **selection: Any) -> bytes:
        return self._try_nowait(lambda channel: channel.receive_nowait(**selection))

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        return await self._try(lambda channel: channel.receive_many(max_messages, **selection))

    async def receive_message(self, **selection: Any) -> Message:
        return await self._try(lambda channel: channel.receive_message(**selection))

    async def send_eof(self) -> None:
        await self._try(lambda channel: channel.send_eof())

    async def aclose(self) -> None:
        self._closed = True
        self._scope.cancel()
        channel, self._channel = self._channel, None
        if channel is not None:
            self._count(channel)
            await channel.aclose()

    def statistics(self) -> ChannelStatistics:
        """Of all connections together."""
        present: tuple[int, ...] = (0, 0, 0, 0) if self._channel is None else _numbers(self._channel.statistics())
        return ChannelStatistics(*map(sum, zip(self._earlier, present, strict=True)))

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {} if self._channel is None else self._channel.extra_attributes

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield ""
        yield "closed" if self._closed else "not connected" if self._channel is None else "connected"
        yield counted(self.connections, "connection") + " so far" if self.connections else ""
        yield repr(self._channel) if self._channel is not None else ""


def reconnecting(url: str, **options: Unpack[ChannelOptions]) -> Opening[ReconnectingChannel]:
    """A channel to a service that may restart: `async with aipc.reconnecting("unix:/run/app.sock") as channel`, or await it.

    It is open when the first connection is. When that is lost, each call under way raises Disconnected, a BrokenResourceError; the
    next call waits until somebody listens again. Whether what was sent before has arrived is for the two programs to find out.
    Options and errors as for `open_channel` with `wait`, which not every mechanism has. Cancelled: nothing was opened.
    """
    options["wait"] = True
    open_channel(url, **options)  # AddressError now

    async def connect() -> Channel:
        return await open_channel(url, **options)

    async def opened() -> ReconnectingChannel:
        channel = ReconnectingChannel(connect)
        await channel.connected()
        return channel

    return Opening(opened, url)


def _numbers(counted: ChannelStatistics) -> tuple[int, int, int, int]:
    return counted.messages_sent, counted.messages_received, counted.bytes_sent, counted.bytes_received


def _disconnected(channel: Channel, error: Exception) -> Disconnected:
    why = str(error) or type(error).__name__
    return Disconnected(f"{channel!r}: the connection was lost ({why}): what was sent last may not have arrived")
