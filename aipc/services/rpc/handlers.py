"""The calls that the peer makes on one connection: a limited number runs, a few wait here, all others in the kernel."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue

from .answering import Answering, Credit, Execution, Incoming
from .caller import Caller
from .client import Client
from .outbox import Outbox
from .router import Router
from .wires import extension
from .wires.base import Id, Notification, Request, Wire

_logger = logging.getLogger("aipc")
_MOST_ANNOUNCED = 256
"""Preambles of requests that have not come yet."""


class Handlers:
    """Every unanswered call of the peer."""

    def __init__(self, client: Client, wire: Wire, outbox: Outbox, router: Router, limit: int) -> None:
        self._client = client  # for calls back to the peer
        self._answering = Answering(wire, outbox, router)
        self.limit: int = limit
        self._running = 0
        self._parked: OrderedDict[Execution, None] = OrderedDict()
        self._places = WaitQueue()
        self._by_id: dict[Id, Execution] = {}
        self._when_idle: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._announced: OrderedDict[Id, tuple[float, int | None]] = OrderedDict()

    @property
    def unanswered(self) -> int:
        """The number of calls that run, or wait here."""
        return self._running + len(self._parked)

    def accept(self, incoming: Incoming, fds: Sequence[int]) -> Execution | None:
        """Return the call to run for this event; None for an unknown notification."""
        if isinstance(incoming, Notification) and incoming.method not in self._answering.router:
            return None
        execution = Execution(incoming, Caller(self._client, fds))
        if isinstance(incoming, Request):
            if self._announced:
                self._apply_preamble(execution, incoming.id)
            self._by_id.setdefault(incoming.id, execution)
        return execution

    def announce(self, id: Id, seconds: float | None, credit: int | None) -> None:
        """Store the preamble of a request that follows."""
        self._announced[id] = (math.inf if seconds is None else anyio.current_time() + seconds), credit
        if len(self._announced) > _MOST_ANNOUNCED:
            self._announced.popitem(last=False)

    def _apply_preamble(self, execution: Execution, id: Id) -> None:
        deadline, credit = self._announced.pop(id, (math.inf, None))
        execution.caller.deadline = deadline
        execution.credit = None if credit is None else Credit(credit)

    def cancel(self, id: Id) -> None:
        """Cancel a call that the peer gave up. An unknown one may have been answered already."""
        execution = self._by_id.get(id)
        if execution is not None:
            execution.cancel()

    def allow(self, id: Id, count: int) -> None:
        """Allow a stream that many more items."""
        execution = self._by_id.get(id)
        if execution is not None and execution.credit is not None:
            execution.credit.add(count)

    def admit(self, execution: Execution) -> bool | None:
        """Whether to start it now; otherwise it waits here. None: there is no room for that either, see `wait_room`."""
        if self._running < self.limit:
            self._running += 1
            return True
        if len(self._parked) >= extension.FIRST_WINDOW:
            return None
        self._parked[execution] = None
        return False

    async def wait_room(self) -> None:
        """Wait until a method has ended. Cancelled: nothing happened."""
        await self._places.queue()

    async def handle(self, execution: Execution) -> None:
        """Run it, and after it the calls that wait for a place."""
        try:
            while True:
                try:
                    await self._run(execution)
                finally:
                    execution.close()
                if not self._parked:
                    return
                execution = self._parked.popitem(last=False)[0]
                self._places.wake()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            _logger.debug("%r: an answer could not be sent: %s", self._client.channel, error)  # the peer has left
        finally:
            self._running -= 1
            self._places.wake()
            if not self._running and self._when_idle is not None:
                backend.start_soon(self._when_idle)

    def when_idle(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the function in the background whenever no call runs, and now if none does."""
        self._when_idle = function
        if not self._running:
            backend.start_soon(function)

    def close(self) -> None:
        """Drop the waiting calls: the connection has ended."""
        for execution in self._parked:
            execution.close()
        self._parked.clear()

    async def _run(self, execution: Execution) -> None:
        execution.caller.enter()
        incoming = execution.incoming
        if not isinstance(incoming, Request):
            await self._answering.run(execution, incoming)
            return
        data = await self._answering.answer_in_time(execution, incoming)
        if self._by_id.get(incoming.id) is execution:
            del self._by_id[incoming.id]
        await self._answering.send(execution, incoming, data, more=self._running > 1)
