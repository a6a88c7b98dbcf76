"""The calls that the peer makes on one connection: at most so many run at once, a few wait here, all others in the kernel."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue

from . import extension
from .answering import Answering, Credit, Execution, Incoming
from .caller import Caller
from .client import Client
from .outbox import Outbox
from .router import Router
from .wire import Id, Notification, Request, Wire

_logger = logging.getLogger("aipc")
_MOST_ANNOUNCED = 256
"""Preambles of requests that have not come."""


class Handlers:
    """Every call of the peer's that is not answered."""

    def __init__(self, client: Client, wire: Wire, outbox: Outbox, router: Router, limit: int) -> None:
        self._client = client  # of the peer: to call back
        self._answering = Answering(wire, outbox, router)
        self.limit = limit
        self._running = 0
        self._parked: OrderedDict[Execution, None] = OrderedDict()
        self._places = WaitQueue()
        self._by_id: dict[Id, Execution] = {}
        self._when_idle: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._announced: OrderedDict[Id, tuple[float, int | None]] = OrderedDict()

    @property
    def unanswered(self) -> int:
        """Calls that run, or wait for their turn here."""
        return self._running + len(self._parked)

    def accept(self, incoming: Incoming, fds: Sequence[int]) -> Execution | None:
        """What is to be run for this; None for a notification that nobody knows."""
        if isinstance(incoming, Notification) and incoming.method not in self._answering.router:
            return None
        execution = Execution(incoming, Caller(self._client, fds))
        if isinstance(incoming, Request):
            if self._announced:
                self._apply_preamble(execution, incoming.id)
            self._by_id.setdefault(incoming.id, execution)
        return execution

    def announce(self, id: Id, seconds: float | None, credit: int | None) -> None:
        """The preamble of a request that follows."""
        self._announced[id] = (math.inf if seconds is None else anyio.current_time() + seconds), credit
        if len(self._announced) > _MOST_ANNOUNCED:
            self._announced.popitem(last=False)

    def _apply_preamble(self, execution: Execution, id: Id) -> None:
        deadline, credit = self._announced.pop(id, (math.inf, None))
        execution.caller.deadline = deadline
        execution.credit = None if credit is None else Credit(credit)

    def cancel(self, id: Id) -> None:
        """The peer gave up that call. One that is not known may have been answered already."""
        execution = self._by_id.get(id)
        if execution is not None:
            execution.cancel()

    def allow(self, id: Id, count: int) -> None:
        """The peer takes so many items more."""
        execution = self._by_id.get(id)
        if execution is not None and execution.credit is not None:
            execution.credit.add(count)

    def admit(self, execution: Execution) -> bool | None:
        """Whether to start it now; else it waits its turn here. None: there is no room even for that, see `wait_room`."""
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
        """Run it, and after it those that wait for a place."""
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
        """Run it in the background each time that no call runs, and now if none does."""
        self._when_idle = function
        if not self._running:
            backend.start_soon(function)

    def close(self) -> None:
        """The connection is over: nothing that waits is run."""
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
        await self._answering.send(execution, incoming, data)
