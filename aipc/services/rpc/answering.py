"""Running one received call: its method, its stream, its answer."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Any, cast

import anyio

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue
from aipc.exceptions import InvalidMessage, LimitExceeded, MessageTooLarge, UnsupportedOperation

from .caller import Caller
from .errors import INTERNAL_ERROR, CallCancelled, DeadlineExceeded, MethodMissing, RemoteError
from .method import Method
from .outbox import Outbox
from .router import Router
from .wires import extension
from .wires.base import Batch, Id, Invalid, Notification, Request, Wire

_logger = logging.getLogger("aipc")
_UNSENDABLE = (MessageTooLarge, InvalidMessage, UnsupportedOperation, LimitExceeded)
"""Errors of an answer, raised before anything of it is sent."""
_MOST_COLLECTED = 10_000
"""The most items of a stream that is called like a plain method."""

Incoming = Request | Notification | Invalid | Batch


class Credit(WaitQueue):
    """The number of items that a stream may send; the sending task waits here."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count: int = count

    def add(self, count: int) -> None:
        """Allow that many more items."""
        self.count += count
        self.wake()

    async def spend(self) -> None:
        """Wait until an item may be sent."""
        while not self.count:
            await self.queue()
        self.count -= 1


class Execution:
    """One received call, until its answer is sent."""

    __slots__ = ("caller", "cancelled", "credit", "incoming", "scope")

    def __init__(self, incoming: Incoming, caller: Caller) -> None:
        self.incoming: Incoming = incoming
        self.caller: Caller = caller
        self.credit: Credit | None = None
        self.scope: anyio.CancelScope | None = None  # while the method runs
        self.cancelled: bool = False

    def cancel(self) -> None:
        """Note that the caller gave up."""
        self.cancelled = True
        if self.scope is not None:
            self.scope.cancel()

    def close(self) -> None:
        """Close what came with it."""
        self.caller.close()


class Answering:
    """Runs the calls of one connection."""

    def __init__(self, wire: Wire, outbox: Outbox, router: Router) -> None:
        self._wire = wire
        self._outbox = outbox
        self.router: Router = router

    async def run(self, execution: Execution, incoming: Notification | Invalid | Batch) -> None:
        """Send anything except requests. Errors as `Channel.send`."""
        if isinstance(incoming, Notification):
            await self._notified(incoming)
        elif isinstance(incoming, Invalid):
            await self._outbox.send(self._wire.error(incoming.id, incoming.error))
        else:
            await self._answer_batch(execution, incoming)

    async def send(self, execution: Execution, request: Request, data: bytes, *, more: bool) -> None:
        """Send the answer; if it cannot be sent, answer with that error. `more`: as `Outbox.post`. Errors as `Channel.send`."""
        fds = execution.caller.answer_fds
        try:
            letter = self._outbox.post(data, {"fds": fds} if fds else {}, more=more)
            if letter is not None:
                await letter.sent()
        except _UNSENDABLE as error:
            await self._outbox.send(self._failure(request, error))

    async def answer_in_time(self, execution: Execution, request: Request) -> bytes:
        """Run the method until it ends, its caller gives up, or the deadline passes; return the answer."""
        wire, data = self._wire, None
        with backend.cancel_scope(execution.caller.deadline) as execution.scope:
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
            if hasattr(result, "__await__"):
                result = await result
            if method.streams:
                return await self._stream(execution, request.id, method, aiter(result))
            return wire.answer(request.id, method.check(result))
        except Exception as error:  # noqa: BLE001 - the answer reports it
            return self._failure(request, error)

    def _method(self, request: Request) -> Method:
        method = self.router.get(request.method)
        if method is None:
            raise MethodMissing(MethodMissing.CODE, f"Method not found: {request.method}")
        return method

    async def _stream(self, execution: Execution, id: Id, method: Method, items: AsyncIterator[Any]) -> bytes:
        wire = self._wire
        collected = []
        async with aclosing(cast(AsyncGenerator[Any, None], items)) if hasattr(items, "aclose") else nullcontext():
            async for item in items:
                checked = method.check(item)
                if execution.credit is not None:
                    data = wire.notification(extension.ITEM, (id, checked))
                    await execution.credit.spend()
                    await self._outbox.send(data, more=True)
                    continue
                collected.append(checked)
                if len(collected) > _MOST_COLLECTED:
                    raise RemoteError(
                        INTERNAL_ERROR, f"{method.name}: more than {_MOST_COLLECTED:,} items: call it as a stream"
                    )
        return wire.answer(id, None if execution.credit is not None else collected)

    async def _notified(self, notification: Notification) -> None:
        method = self.router.get(notification.method)
        assert method is not None
        try:
            args, kwargs = method.arguments(self._wire, notification.params)
            result = method.function(*args, **kwargs)
            if method.streams:
                raise TypeError("a stream was asked for without an answer")
            if hasattr(result, "__await__"):
                await result
        except Exception:
            _logger.exception("the notification %r failed", notification.method)

    async def _answer_batch(self, execution: Execution, batch: Batch) -> None:
        wire = self._wire
        answers = []
        for call in batch.calls:
            if isinstance(call, Request):
                answers.append(await self._answer(execution, call))
            elif isinstance(call, Invalid):
                answers.append(wire.error(call.id, call.error))
            elif call.method in self.router:
                await self._notified(call)
        if answers:
            await self._outbox.send(wire.batch(answers))

    def _failure(self, request: Request, error: Exception) -> bytes:
        """What to answer for an error of a method."""
        wire, id = self._wire, request.id
        if isinstance(error, RemoteError):
            try:
                return wire.error(id, error)
            except Exception:  # noqa: BLE001 - its data cannot be written: send it without
                return wire.error(id, RemoteError(error.code, str(error.message)))
        _logger.error("the method %r failed", request.method, exc_info=error)
        if isinstance(error, _UNSENDABLE):
            return wire.error(id, RemoteError(INTERNAL_ERROR, f"the answer can't be sent: {error}"))
        if not self.router.expose_errors:
            return wire.error(id, RemoteError(INTERNAL_ERROR, "Internal error"))
        text = "".join(traceback.format_exception(error))
        return wire.error(id, RemoteError(INTERNAL_ERROR, f"{type(error).__name__}: {error}", text))
