"""A connection between two processes by way of a server: a channel of two lists, one each way, for calls.

Each message has its place in a list until its receiver has asked for the one after it; so an answer that is lost is asked for again.
Either side tells now and then that it is alive. When it does not, the other one learns that the connection is broken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import anyio

from aipc._io import fork
from aipc._io.loop import backend
from aipc._texts.shown import Fact, counted, shown, usable
from aipc.abc import Buffer, Channel, ChannelAttribute, ChannelStatistics, Message
from aipc.exceptions import MessageTooLarge, UnsupportedOperation
from aipc.wire.framing import as_bytes

from .links import registry
from .links.link import Link
from .scripts import call
from .server import Place

_BEAT = 1.5
_ALIVE = 5.0
"""Seconds between signs of life, and after which a side without one is gone."""
_MANY = 100
_BATCH_SIZE = 1024 * 1024
_ROOM = 1000
"""Messages of one script, bytes of it, and messages that may wait for their receiver."""
_LEFT = 10_000
_END, _GONE = -1, -2


class RemoteConnectionChannel(Channel):
    """One end of a connection. `side` is `client` or `server`."""

    def __init__(self, link: Link, place: Place, number: str, side: str, limit: int) -> None:
        self._link = link
        self._name = f"{place.url} ({number})"
        self._limit = limit
        self._accepts = self._accepted = side == "server"
        other = "client" if side == "server" else "server"
        parts = {name: place.key(f"call:{number}:{name}") for name in _names("client", "server")}
        self._in = _keys(parts, other, alive=other, we=side, back=side)
        self._out = _keys(parts, side, alive=other, we=side, back=other)
        self._ready: deque[bytes] = deque()
        self._had = 0
        self._end: Exception | None = None
        self._output_ended = False
        self._closed = False
        self._generation = fork.generation
        self._timer: backend.Timer | None = None
        self._beating = False
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0

    # Signs of life

    async def begin(self) -> bool:
        """Tell that we are there; False if the other side is gone."""
        reply = await self._link.ask(self._beat_command())
        self._arm()
        return bool(reply)

    def _beat_command(self) -> bytes:
        return call("beat", self._out, round(_ALIVE * 1000), int(self._accepts), int(self._accepted))

    def _arm(self) -> None:
        if not self._closed:
            self._timer = backend.call_later(self._link.loop, _BEAT, self._beat)

    def _beat(self) -> None:
        self._timer = None
        if self._closed or self._link.closed or self._end is not None:
            return
        self._arm()
        if not self._beating:
            self._beating = True
            self._link.tell(self._beat_command(), self._heard)

    def _heard(self, reply: Any) -> None:
        self._beating = False
        if reply == 0:
            self._ring()  # who waits asks, and learns what is wrong
        elif reply == 2:
            self._accepted = True

    def _ring(self) -> None:
        for name in (self._in[2], self._out[3]):
            self._link.wakes.ring(name)

    # Sending

    async def send(self, item: Buffer, **meta: Any) -> None:
        await self._push([self._message(item, meta)])

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        messages = [self._message(item, meta)]
        if not self._pushed(messages, self._link.ask_now(self._push_command(messages, waits=False))):
            raise anyio.WouldBlock(f"{self._name}: no room to send now; await send() waits for it")

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        messages: list[bytes] = []
        size = 0
        try:
            for item in items:
                messages.append(self._message(item, meta))
                size += len(messages[-1])
                if len(messages) == _MANY or size >= _BATCH_SIZE:
                    await self._push(messages)
                    messages, size = [], 0
        except (MessageTooLarge, TypeError):
            await self._push(messages)
            raise
        await self._push(messages)

    def _message(self, item: Buffer, meta: Mapping[str, Any]) -> bytes:
        self._check(meta)
        if self._output_ended:
            raise anyio.ClosedResourceError(f"{self._name}: send_eof was called")
        data = bytes(as_bytes(item))
        if len(data) > self._limit:
            raise MessageTooLarge(f"{self._name}: a message of {len(data):,} bytes; max_message_size is {self._limit:,}")
        return data

    async def _push(self, messages: list[bytes]) -> None:
        while messages:
            part = messages

            async def push(registers: bool, part: list[bytes] = part) -> int | None:
                def count(reply: Any) -> None:
                    if reply and reply > 0:
                        self._count_sent(part[:reply])

                reply = await self._link.ask(self._push_command(part, waits=registers), count)
                return self._pushed(part, reply) or None

            messages = messages[await self._link.wakes.place(self._out[3]).attempt(push, self._check) :]

    def _push_command(self, messages: list[bytes], *, waits: bool) -> bytes:
        link = self._link
        return call(
            "push", self._out, link.name, link.number(), link.answered, int(waits), int(self._accepted), _ROOM, *messages
        )

    def _pushed(self, messages: list[bytes], count: int) -> int:
        if count == _GONE:
            raise self._broken()
        self._count_sent(messages[:count])
        return count

    def _count_sent(self, messages: list[bytes]) -> None:
        self._sent += len(messages)
        self._bytes_sent += sum(map(len, messages))

    def _broken(self) -> anyio.BrokenResourceError:
        return anyio.BrokenResourceError(f"{self._name}: the other side is gone")

    # Receiving

    async def receive(self, **selection: Any) -> bytes:
        return (await self._take(1, selection))[0]

    def receive_nowait(self, **selection: Any) -> bytes:
        self._check(selection)
        if not self._ready and not self._pulled(self._link.ask_now(self._pull_command(waits=False))):
            raise anyio.WouldBlock(f"{self._name}: nothing to receive now; await receive() waits for it")
        return self._pop(1)[0]

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        return await self._take(max_messages or _MANY, selection)

    async def receive_message(self, **selection: Any) -> Message:
        return Message(await self.receive(**selection))

    async def _take(self, most: int, selection: Mapping[str, Any]) -> list[bytes]:
        self._check(selection)
        if not self._ready:
            await self._link.wakes.place(self._in[2]).attempt(self._pull, self._check)
        return self._pop(most)

    async def _pull(self, registers: bool) -> bool | None:
        if self._ready:  # another task's
            return True
        return self._pulled(await self._link.ask(self._pull_command(waits=registers))) or None

    def _pull_command(self, *, waits: bool) -> bytes:
        if self._end is not None:
            raise self._end.with_traceback(None)
        return call("pull", self._in, self._link.name, self._had, int(waits), int(self._accepted), _MANY)

    def _pulled(self, reply: Any) -> bool:
        """Whether there are messages now. Two tasks may have asked for the same ones."""
        if reply in (_END, _GONE):
            if not self._ready:
                self._end = anyio.EndOfStream() if reply == _END else self._broken()
                raise self._end
        elif reply:
            new = reply[1 + self._had - reply[0] :]
            self._ready.extend(new)
            self._had += len(new)
        return bool(self._ready)

    def _pop(self, most: int) -> list[bytes]:
        messages = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
        self._received += len(messages)
        self._bytes_received += sum(map(len, messages))
        return messages

    # The rest

    async def send_eof(self) -> None:
        self._check()
        if not self._output_ended:
            self._output_ended = True
            await self._link.ask(call("end", self._out, _LEFT * 6, 0))

    async def aclose(self) -> None:
        """Close. Idempotent. What was sent stays for the other side for some seconds. Cancelled: it closes all the same."""
        if not self._closed and self._generation == fork.generation:
            self._finish()
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await self._link.flushed()
            registry.leave(self._link)

    def close(self) -> None:
        """`aclose`, without waiting for the server's answers."""
        if not self._closed and self._generation == fork.generation:
            self._finish()
            registry.leave(self._link)

    def _finish(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._link.closed:
            self._link.tell(call("end", self._out, _LEFT, 1))
        self._ring()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._bytes_sent, self._bytes_received)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {ChannelAttribute.max_message_size: lambda: self._limit}

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield usable(self._closed, self._generation)
        yield counted(len(self._ready), "message") + " read ahead" if self._ready else ""
        yield "the other side has ended its stream" if isinstance(self._end, anyio.EndOfStream) else ""
        yield "this side has ended its stream" if self._output_ended else ""

    def _check(self, given: Mapping[str, Any] | None = None) -> None:
        fork.check(self._generation, self._name)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._name}: closed")
        if given:
            raise UnsupportedOperation(
                f"{self._name}: no such option here: {', '.join(sorted(given))} (this mechanism takes: none)"
            )


def _names(*sides: str) -> list[str]:
    return [f"{side}:{what}" for side in sides for what in ("list", "state", "receiver", "sender", "alive", "sent")]


def _keys(parts: Mapping[str, str], sender: str, *, alive: str, we: str, back: str) -> tuple[str, ...]:
    """The keys for the messages of that sender, as `common_calls.lua` lists them."""
    own = (parts[f"{sender}:{what}"] for what in ("list", "state", "receiver", "sender"))
    return (*own, parts[f"{alive}:alive"], parts[f"{we}:alive"], parts[f"{back}:state"], parts[f"{sender}:sent"])
