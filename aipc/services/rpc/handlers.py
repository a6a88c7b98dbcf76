"""The calls that the peer makes on one connection: at most so many run at once, a few wait here, all others in the kernel."""

from __future__ import annotations

import logging
import math
import traceback
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from aipc._io.loop.wait_queue import WaitQueue
from aipc.exceptions import InvalidMessage, LimitExceeded, MessageTooLarge, UnsupportedOperation

from . import extension
from .caller import Caller
from .client import Client
from .errors import INTERNAL_ERROR, CallCancelled, DeadlineExceeded, MethodMissing, RemoteError
from .method import Method
from .outbox import Outbox
from .router import Router
from .wire import Batch, Id, Invalid, Notification, Request, Wire

_logger = logging.getLogger("aipc")
_UNSENDABLE = (MessageTooLarge, InvalidMessage, UnsupportedOperation, LimitExceeded)
"""Errors of an answer, before anything of it is sent."""
_MOST_COLLECTED = 10_000
"""Items of a stream that is called as if it were none."""
_MOST_ANNOUNCED = 256
"""Preambles of requests that have not come."""

Incoming = Request | Notification | Invalid | Batch


class Credit(WaitQueue):
    """How many items of a stream may be sent; the task that sends them waits here."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def add(self, count: int) -> None:
        """The peer takes so many more."""
        self.count += count
        self.wake()

    async def spend(self) -> None:
        """Wait until one may be sent."""
        while not self.count:
            await self.queue()
        self.count -= 1


class Execution:
    """One call that came, from then until its answer is sent."""

    __slots__ = ("caller", "cancelled", "credit", "incoming", "scope")

    def __init__(self, incoming: Incoming, caller: Caller) -> None:
        self.incoming = incoming
        self.caller = caller
        self.credit: Credit | None = None
        self.scope: anyio.CancelScope | None = None  # while the method runs
        self.cancelled = False

    def cancel(self) -> None:
        """The caller gave up."""
        self.cancelled = True
        if self.scope is not None:
            self.scope.cancel()

    def close(self) -> None:
        """Give back what came with it."""
        self.caller.close()


class Handlers:
    """Every call of the peer's that is not answered."""

    def __init__(self, client: Client, wire: Wire, outbox: Outbox, router: Router, limit: int) -> None:
        self._client = client  # of the peer: to call back
        self._wire = wire
        self._outbox = outbox
        self._router = router
        self.limit = limit
        self._running = 0
        self._parked: OrderedDict[Execution, None] = OrderedDict()
        self._places = WaitQueue()
        self._by_id: dict[Id, Execution] = {}
        self._announced: OrderedDict[Id, tuple[float, int | None]] = OrderedDict()

    @property
    def unanswered(self) -> int:
        """Calls that run, or wait for their turn here."""
        return self._running + len(self._parked)

    def accept(self, incoming: Incoming, fds: Sequence[int]) -> Execution | None:
        """What is to be run for this; None for a notification that nobody knows."""
        if isinstance(incoming, Notification) and incoming.method not in self._router:
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

    async def admit(self, execution: Execution) -> bool:
        """Whether to start it now; else it waits its turn. Waits while there is no room even for that."""
        while self._running >= self.limit and len(self._parked) >= extension.FIRST_WINDOW:
            await self._places.queue()
        if self._running < self.limit:
            self._running += 1
            return True
        self._parked[execution] = None
        return False

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

    def close(self) -> None:
        """The connection is over: nothing that waits is run."""
        for execution in self._parked:
            execution.close()
        self._parked.clear()

    async def _run(self, execution: Execution) -> None:
        execution.caller.enter()
        incoming = execution.incoming
        if isinstance(incoming, Request):
            data = await self._answer_in_time(execution, incoming)
            if self._by_id.get(incoming.id) is execution:
                del self._by_id[incoming.id]
            await self._send(execution, incoming.id, data)
        elif isinstance(incoming, Notification):
            await self._notified(incoming)
        elif isinstance(incoming, Invalid):
            await self._outbox.send(self._wire.error(incoming.id, incoming.error))
        else:
            await self._answer_batch(execution, incoming)

    async def _send(self, execution: Execution, id: Id, data: bytes) -> None:
        fds = execution.caller.answer_fds
        try:
            await self._outbox.send(data, {"fds": fds} if fds else {})
        except _UNSENDABLE as error:
            await self._outbox.send(self._failure(id, error))

    async def _answer_in_time(self, execution: Execution, request: Request) -> bytes:
        wire, data = self._wire, None
        with anyio.CancelScope(deadline=execution.caller.deadline) as execution.scope:
            if not execution.cancelled:
                data = await self._answer(execution, request)
        execution.scope = None
        if data is not None:
            return data
        if execution.cancelled:
            return wire.error(request.id, CallCancelled(CallCancelled.CODE, f"{request.method}: cancelled"))
        return wire.error(request.id, DeadlineExceeded(DeadlineExceeded.CODE, f"{request.method}: the deadline passed"))

    async def _answer(self, execution: Execution, request: Request) -> bytes:
        wire = self._wire
        try:
            method = self._method(request)
            args, kwargs = method.arguments(wire, request.params)
            result = method.function(*args, **kwargs)
            if method.streams:
                return await self._stream(execution, request.id, method, result)
            if hasattr(result, "__await__"):
                result = await result
            return wire.answer(request.id, method.check(result))
        except Exception as error:  # noqa: BLE001 - it is answered
            return self._failure(request.id, error)

    def _method(self, request: Request) -> Method:
        method = self._router.get(request.method)
        if method is None:
            raise MethodMissing(MethodMissing.CODE, f"Method not found: {request.method}")
        return method

    async def _stream(self, execution: Execution, id: Id, method: Method, items: AsyncIterator[Any]) -> bytes:
        wire = self._wire
        collected = []
        async with aclosing(aiter(items)) as stream:  # type: ignore[type-var]
            async for item in stream:
                checked = method.check(item)
                if execution.credit is not None:
                    data = wire.notification(extension.ITEM, (id, checked))
                    await execution.credit.spend()
                    await self._outbox.send(data)
                    continue
                collected.append(checked)
                if len(collected) > _MOST_COLLECTED:
                    raise RemoteError(
                        INTERNAL_ERROR, f"{method.name}: more than {_MOST_COLLECTED:,} items: call it as a stream"
                    )
        return wire.answer(id, None if execution.credit is not None else collected)

    async def _notified(self, notification: Notification) -> None:
        method = self._router.get(notification.method)
        assert method is not None
        try:
            args, kwargs = method.arguments(self._wire, notification.params)
            result = method.function(*args, **kwargs)
            if method.streams:
                raise TypeError("a stream was asked for without an answer")
            if hasattr(result, "__await__"):
                await result
        except Exception:
            _logger.exception("%r: the notification %r failed", self._client.channel, notification.method)

    async def _answer_batch(self, execution: Execution, batch: Batch) -> None:
        wire = self._wire
        answers = []
        for call in batch.calls:
            if isinstance(call, Request):
                answers.append(await self._answer(execution, call))
            elif isinstance(call, Invalid):
                answers.append(wire.error(call.id, call.error))
            elif call.method in self._router:
                await self._notified(call)
        if answers:
            await self._outbox.send(wire.batch(answers))

    def _failure(self, id: Id, error: Exception) -> bytes:
        """What to answer for an error of a method."""
        wire = self._wire
        if isinstance(error, RemoteError):
            try:
                return wire.error(id, error)
            except Exception:  # noqa: BLE001 - its data can't be written: then without
                return wire.error(id, RemoteError(error.code, str(error.message)))
        _logger.error("%r: a method failed", self._client.channel, exc_info=error)
        if isinstance(error, _UNSENDABLE):
            return wire.error(id, RemoteError(INTERNAL_ERROR, f"the answer can't be sent: {error}"))
        if not self._router.expose_errors:
            return wire.error(id, RemoteError(INTERNAL_ERROR, "Internal error"))
        text = "".join(traceback.format_exception(error))
        return wire.error(id, RemoteError(INTERNAL_ERROR, f"{type(error).__name__}: {error}", text))
