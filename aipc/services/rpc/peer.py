"""One connection, the same at both ends: one task reads, and each received call runs in a task of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._io.loop.connection_tasks import connection_tasks
from aipc._texts.shown import Fact, counted, shown
from aipc.abc import Channel
from aipc.services.codecs import check

from .answering import Execution
from .calls import Calls
from .client import Client
from .fds import close_all
from .handlers import Handlers
from .outbox import Outbox
from .router import Router
from .wires import extension
from .wires.base import Answer, Event, Notification, Wire
from .wires.json_rpc import JsonWire
from .wires.msgpack_rpc import MessagePackWire

_MOST_RECEIVED = 64
"""Messages taken from the channel at once."""


class Peer:
    """Both directions of one connection."""

    def __init__(self, channel: Channel, codec: str, router: Router | None, max_in_flight: int) -> None:
        check_limit(max_in_flight)
        self.channel: Channel = channel
        self.wire: Wire = _wire(codec)
        self.outbox: Outbox = Outbox(channel)
        self.calls: Calls = Calls(self.wire, self.outbox)
        self.client: Client = Client(channel, self.wire, self.outbox, self.calls)
        self.handlers: Handlers = Handlers(self.client, self.wire, self.outbox, router or Router(), max_in_flight)
        self._takes_fds = False
        self._events: Iterator[Event] = iter(())
        self._fds: tuple[int, ...] = ()  # of the present message
        self._told_window = False

    def tell_window(self) -> None:
        """Tell the peer, once, how many calls this side accepts at once. A peer that does not know this ignores it."""
        if not self._told_window:
            self._told_window = True
            self.outbox.post(self.wire.notification(extension.WINDOW, (self.handlers.limit,)))

    def drain(self) -> None:
        """Close the connection as soon as no method runs. The peer's messages until then are still answered."""
        self.handlers.when_idle(self._close_idle)

    async def _close_idle(self) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            await self.outbox.send_held()
        if not self.handlers.unanswered:  # a call that came meanwhile is answered first
            await self.aclose()

    async def run(self) -> None:
        """Read, and run calls, until the peer ends the connection, or it breaks.

        EndOfStream, BrokenResourceError, ClosedResourceError, or ProtocolError for an invalid message: by then the running methods have
        been cancelled and have ended, and the calls have failed. Cancelled: likewise.
        """
        try:
            await connection_tasks(self.handlers.handle, math.inf).serve(self._next)
        except Exception as error:
            self.calls.fail(error)
            raise
        finally:
            self.calls.fail(anyio.ClosedResourceError())
            self.handlers.close()
            self._close_fds()

    async def _next(self) -> Execution | None:
        while True:
            for event in self._events:
                execution = self._dispatch(event)
                if execution is None:
                    continue
                admitted = self.handlers.admit(execution)
                if admitted is None:
                    admitted = await self._admit(execution)
                if admitted:
                    return execution
            self._close_fds()
            await backend.checkpoint()  # woken tasks run before this task checks for the next message
            self._events = self._feed(await self._receive())

    async def _admit(self, execution: Execution) -> bool:
        """`Handlers.admit`, once there is room: until then nothing is read."""
        try:
            while (admitted := self.handlers.admit(execution)) is None:
                await self.handlers.wait_room()
        except BaseException:
            execution.close()
            raise
        return admitted

    async def _receive(self) -> Sequence[bytes]:
        try:
            if self._takes_fds:
                message = await self.channel.receive_message()
                self._fds = message.fds
                return (message.data,)
            return await self.channel.receive_many(_MOST_RECEIVED)
        except anyio.EndOfStream:
            self.wire.end()
            raise

    def _feed(self, messages: Sequence[bytes]) -> Iterator[Event]:
        for message in messages:
            yield from self.wire.feed(message)

    def _dispatch(self, event: Event) -> Execution | None:
        """Handle an event that needs no task, or start a task."""
        if type(event) is Answer:
            fds, self._fds = self._fds, ()
            self.calls.answered(event, fds)
            return None
        if type(event) is Notification and event.method.startswith("$/"):
            self._extension(event)
            return None
        assert not isinstance(event, Answer)
        execution = self.handlers.accept(event, self._fds)
        if execution is not None:
            self._fds = ()
        return execution

    def _extension(self, event: Notification) -> None:
        params: Any = extension.params(self.wire, event.method, event.params)
        if params is None:
            return
        if event.method == extension.ITEM:
            self.calls.came(*params)
        elif event.method == extension.REQUEST:
            self.handlers.announce(*params)
        elif event.method == extension.CREDIT:
            self.handlers.allow(*params)
        elif event.method == extension.CANCEL:
            self.handlers.cancel(*params)
        elif event.method == extension.DESCRIPTORS:
            self._takes_fds = True
            self.calls.tell_fds()
            self.calls.fds_agreed()
        else:
            self.calls.window(*params)
            self.tell_window()

    def _close_fds(self) -> None:
        if self._fds:
            close_all(self._fds)
            self._fds = ()

    async def aclose(self) -> None:
        """Close the channel."""
        with suppress(anyio.ClosedResourceError):
            await self.channel.aclose()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield f"over {self.channel!r}"
        yield counted(self.calls.unanswered, "unanswered call")
        yield counted(self.handlers.unanswered, "method") + " under way" if self.handlers.unanswered else ""


def check_limit(max_in_flight: int) -> None:
    """ValueError for a limit under which nothing would run."""
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight={max_in_flight}: must be 1 or more")


def _wire(codec: str) -> Wire:
    check(codec)
    return JsonWire() if codec == "json" else MessagePackWire()
