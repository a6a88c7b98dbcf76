"""The command connection of a server and loop: any number of tasks ask, and each gets its own answer.

Commands go out in the order in which they were asked for; while answers are on their way, new commands gather, and some go together.
What is unanswered when a connection is lost is asked again on the next one, in the same order: each script bears that.
"""

from __future__ import annotations

import logging
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, ClassVar

import anyio

from aipc._io import fork
from aipc._io.loop.wait_queue import WaitQueue
from aipc._sys.clock import elapsed
from aipc.abc import ChannelAttribute
from aipc.exceptions import AipcError, ProtocolError

from ..errors import SlotMoves, explain, kind_of, lasting, passing
from ..server import Server
from .connection import GONE, Connection
from .line import SILENCE, Line
from .soon import Soon
from .wakes import Wakes

_logger = logging.getLogger("aipc")
_PATIENCE = 30.0
"""Seconds without a connection after which those who wait for an answer get an error."""
_CLOSING = 2.0
_PARTS = 4
"""Into how many writes the commands of many tasks are put: the server works on one, while the tasks take the answers to another."""
Undo = Callable[[Any], object]
Parse = Callable[[Any], Any]


class Request(WaitQueue):
    """A command, and the task that awaits its answer, if any does.

    `parse` makes the answer of the server's reply, as soon as that comes. `undo` is called with the answer if nobody is there to
    have it; with None if it will never be known.
    """

    __slots__ = (
        "abandoned", "data", "done", "error", "number", "parse", "patient", "refused", "repeats", "reply", "stays", "told", "tried", "undo",
    )  # fmt: skip

    def __init__(
        self,
        data: bytes,
        undo: Undo | None = None,
        *,
        parse: Parse | None = None,
        patient: bool = True,
        repeats: bool = True,
        stays: bool = False,
    ) -> None:
        super().__init__()
        self.data: bytes = data
        self.undo: Undo | None = undo
        self.parse: Parse | None = parse
        self.patient: bool = patient
        self.repeats: bool = repeats
        self.stays: bool = stays
        self.refused: bool = False  # its server did not do it
        self.abandoned: bool = False
        self.told: bool = False  # nobody ever awaits it
        self.number: int = 0  # no later one has a lower one
        self.done: bool = False
        self.tried: bool = False
        self.reply: Any = None
        self.error: Exception | None = None

    def answer(self, reply: Any) -> None:
        """The server's answer, or the error instead of one."""
        self.done = True
        if isinstance(reply, Exception):
            self.error = reply
        else:
            self.reply = reply if self.parse is None else self.parse(reply)
        if self.abandoned:
            self.regret()
        else:
            self.wake_all()

    def regret(self) -> None:
        """Nobody takes the answer."""
        if self.undo is not None:
            self.undo(self.reply)

    def result(self) -> Any:
        """The answer; an error is raised."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.reply


class Link(Line):
    """Asks a server. `name` tells this process and loop from all others there."""

    SCRIPTS: ClassVar[bool] = True

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.name: str = os.urandom(8).hex()
        self.users: int = 0
        self.wakes: Wakes = Wakes(server, self.name, self.tell)
        self._unsent: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        self.lost_at: float = 0.0
        """When the last connection was lost, by `elapsed`; 0: none was."""
        self._asked = 0.0
        self._numbers = 0
        self._soon = Soon(self.loop)
        self._asking = 0

    def number(self) -> int:
        """The next number, from 1 on."""
        self._numbers += 1
        return self._numbers

    @property
    def answered(self) -> int:
        """All requests with a lower number have their answers, or never left."""
        waiting = self._sent or self._unsent
        return waiting[0].number if waiting else self._numbers

    @property
    def idle(self) -> bool:
        """Whether a command would leave at once, and no task awaits an answer."""
        return self.connection is not None and not self._asking

    @property
    def unanswered(self) -> int:
        """How many commands wait for their answers."""
        return len(self._unsent) + len(self._sent)

    async def ask(
        self,
        data: bytes,
        undo: Undo | None = None,
        *,
        parse: Parse | None = None,
        patient: bool = True,
        repeats: bool = True,
        stays: bool = False,
    ) -> Any:
        """The server's answer to a command. `patient`: wait for a connection, if there is none.

        Without `repeats`: BrokenResourceError if the connection was lost before the answer; nobody knows whether it was done.

        Cancelled: not done, if it had not left, unless it `stays`; else done, and `undo(answer)` is called when the answer comes.
        """
        request = Request(data, undo, parse=parse, patient=patient, repeats=repeats, stays=stays)
        if self._asking:
            self._soon.crowded()
        self._asking += 1
        try:
            self._submit(request)
            self._look(request)
            if not request.done:
                await request.queue()
        except BaseException:
            self._abandon(request)
            raise
        finally:
            self._asking -= 1
        return request.result()

    def tell(
        self,
        data: bytes,
        answered: Undo | None = None,
        *,
        parse: Parse | None = None,
        repeats: bool = True,
    ) -> None:
        """Have a command done, some time; `answered` is called with the answer."""
        request = Request(data, answered, parse=parse, repeats=repeats)
        request.abandoned = request.told = True
        if not self.closed:
            self._submit(request)

    def ask_now(self, data: bytes, *, parse: Parse | None = None) -> Any:
        """The answer to a command, for a plain call, which waits for it.

        WouldBlock if there is no connection now; BrokenResourceError if there is no answer in 5 s.
        """
        if self.connection is None or self.closed:
            raise anyio.WouldBlock("not connected now; the call that is awaited waits for a connection")
        request = Request(data, parse=parse)
        request.abandoned = True
        self._submit(request)
        end = monotonic() + SILENCE
        while not request.done and self.connection is not None and monotonic() < end:
            self._flush()
            self._read_now(self.connection)
        if not request.done:
            raise anyio.BrokenResourceError(f"{self.server.url}: no answer in {SILENCE:.0f} s")
        return request.result()

    def _look(self, request: Request) -> None:
        """Read the answer, if it comes soon."""
        try:
            while not request.done and self.connection is not None:
                data = self._soon.read()
                if data is None:
                    break
                self._heard = monotonic()
                self._received(self.connection.parse(data))
        except (*GONE, ProtocolError):
            self._drop()  # its reader finds it closed

    def _read_now(self, connection: Connection) -> None:
        try:
            events = select.POLLIN if connection.push() else select.POLLIN | select.POLLOUT
            self._received(connection.read_nowait())
        except anyio.WouldBlock:
            poll = select.poll()
            poll.register(connection.channel.extra(ChannelAttribute.descriptor), events)
            poll.poll(100)
        except (*GONE, ProtocolError):
            self._drop()  # its reader finds it closed

    def _submit(self, request: Request) -> None:
        if self.closed:
            raise anyio.ClosedResourceError(f"{self.server.url}: closed")
        request.number = self._numbers
        self._unsent.append(request)
        if self.connection is None:
            self.start()
        elif not self._sent or _PARTS * len(self._unsent) >= self._asking:
            self._flush()

    def _abandon(self, request: Request) -> None:
        request.abandoned = True
        if request.done:
            request.regret()
        elif request in self._unsent and not (request.stays or request.tried):
            self._unsent.remove(request)

    def _flush(self) -> None:
        if not self._unsent or self.connection is None:
            return
        if not self._sent:
            self._asked = monotonic()
        unsent, before = self._unsent, self.connection.before
        alone = len(unsent) == 1 and not before
        if self.write(unsent[0].data if alone else b"".join(before + request.data for request in unsent)):
            for request in unsent:
                request.tried, request.refused = True, False
            self._sent.extend(unsent)
            unsent.clear()
        self.watch()

    def _wanted(self) -> bool:
        return bool(self._unsent or self._sent)

    def _connected(self, connection: Connection) -> None:
        self._soon.connected(connection.channel)
        if connection.imports:
            connection.ask()
        self.wakes.follow(connection.url)
        self._flush()
        if self.lost_at:
            self.wakes.renew()

    def _received(self, replies: list[Any]) -> None:
        for reply in replies:
            answer = explain(reply, self.server.url) if isinstance(reply, Exception) else reply
            if isinstance(reply, Exception) and kind_of(reply) in passing(self.server):
                self._sent[0].refused = True
                raise answer  # a new connection asks this, and all after it, again
            self._useful = True
            request = self._sent.popleft()
            if answer is not reply and request.abandoned:
                _logger.warning("%s: a command failed whose answer nobody awaits: %s", self.server.url, answer)
            request.answer(answer)
        if self._unsent:
            self._flush()

    def _lost(self) -> None:
        self.lost_at = elapsed()
        sent, self._sent = self._sent, deque()
        self._unsent.extendleft(reversed([request for request in sent if request.repeats or request.refused]))
        for request in sent:
            if not (request.repeats or request.refused):
                request.answer(anyio.BrokenResourceError(f"{self.server.url}: the connection was lost before the answer"))

    def _failed(self, error: Exception, seconds: float) -> None:
        for_good = lasting(error)
        if seconds > _PATIENCE and not for_good:
            for_good, error = True, anyio.BrokenResourceError(f"{self.server.url}: no connection for {seconds:.0f} s: {error}")
        soon = isinstance(error, SlotMoves) and seconds < SILENCE
        left: deque[Request] = deque()
        failed: list[Request] = []
        for request in self._unsent:
            waits = (request.patient or soon) and not for_good
            (left if waits else failed).append(request)
        self._unsent = left
        for request in failed:
            if request.told:
                _logger.warning("%s: a command is given up that nobody awaits: %s", self.server.url, error)
            request.answer(error)

    def _is_silent(self) -> bool:
        if not self._sent and not self._unsent:
            return False
        self._flush()  # what had no room before
        self.watch()
        return monotonic() - max(self._heard, self._asked) > SILENCE

    def _push_told(self) -> None:
        """What nobody awaits goes out before the end: leases that are given back."""
        told = [request.data for request in self._unsent if request.told]
        if told and self.connection is not None:
            before = self.connection.before
            self.write(b"".join(before + data for data in told))

    async def flushed(self) -> None:
        """Wait until all is answered, but not long."""
        with anyio.move_on_after(_CLOSING, shield=True), suppress(*GONE, AipcError):
            while self._wanted() and not self.closed:
                await self.ask(b"*1\r\n$4\r\nPING\r\n")

    def close(self) -> None:
        if not self.closed and self._generation == fork.generation:
            self._push_told()
        super().close()
        self.wakes.close()
        requests, self._unsent, self._sent = [*self._sent, *self._unsent], deque(), deque()
        for request in requests:
            request.answer(anyio.ClosedResourceError(f"{self.server.url}: closed"))
