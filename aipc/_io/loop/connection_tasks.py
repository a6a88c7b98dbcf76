"""One task for each connection of a server, all ended together: what a task group does, in two fifths of its memory."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from . import backend
from .wait_queue import WaitQueue

if TYPE_CHECKING:
    import trio

_logger = logging.getLogger("aipc")


class _Closable(Protocol):
    def close(self) -> None: ...


Item = TypeVar("Item", bound=_Closable)


def connection_tasks(handler: Callable[[Item], Awaitable[object]], limit: float = math.inf) -> ConnectionTasks[Item]:
    """The tasks of one `serve`: `handler(item)` for each item, at most `limit` at once."""
    return _TrioTasks(handler, limit) if backend.in_trio() else _AsyncioTasks(handler, limit)


class ConnectionTasks(WaitQueue, ABC, Generic[Item]):
    """The tasks of one `serve`. A task that is queued here waits until one of them ends."""

    __slots__ = ("_accepting", "_closed", "_handler", "_limit")

    def __init__(self, handler: Callable[[Item], Awaitable[object]], limit: float) -> None:
        super().__init__()
        self._handler = handler
        self._limit = limit
        self._accepting = True
        self._closed = False

    @abstractmethod
    async def serve(self, accept: Callable[[], Awaitable[Item | None]]) -> None:
        """Run a task for each accepted item, and close the item when it ends, until `accept` gives None and all have ended.

        A handler's error is logged, unless it is EndOfStream. Cancelled, or an error of `accept`: all handlers are cancelled and
        ended before it raises.
        """

    @property
    @abstractmethod
    def running(self) -> int:
        """How many tasks have not ended."""

    @abstractmethod
    def cancel(self) -> None:
        """Cancel all tasks, without waiting for their end."""

    async def _accept_next(self, accept: Callable[[], Awaitable[Item | None]]) -> Item | None:
        while self.running >= self._limit and self._accepting:
            await self.queue()
        return await accept()

    def stop_accepting(self) -> None:
        """`accept` has an end, or an error, to tell: ask it now, even if the limit is reached."""
        self._accepting = False
        self.wake_all()

    def drain_handler(self) -> None:
        """Let a handler that has a plain method `drain` end its connections by itself."""
        drain = getattr(self._handler, "drain", None)
        if drain is not None:
            drain()

    def mark_closed(self) -> None:
        """`serve` returns, or raises."""
        self._closed = True
        self.wake_all()

    async def wait_closed(self) -> None:
        """Wait until `serve` returns."""
        while not self._closed:
            await self.queue()

    async def wait_idle(self) -> None:
        """Wait until no task runs."""
        while self.running:
            await self.queue()


class _AsyncioTasks(ConnectionTasks[Item]):
    __slots__ = ("_ended", "_running")

    def __init__(self, handler: Callable[[Item], Awaitable[object]], limit: float) -> None:
        super().__init__(handler, limit)
        self._running: dict[asyncio.Task[object], Item] = {}
        self._ended = self._end  # one bound method for all tasks

    async def serve(self, accept: Callable[[], Awaitable[Item | None]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (item := await self._accept_next(accept)) is not None:
                task = loop.create_task(self._start(item), name="aipc connection")
                self._running[task] = item
                task.add_done_callback(self._ended)
            await self.wait_idle()
        finally:
            await self._end_all()

    @property
    def running(self) -> int:
        return len(self._running)

    def cancel(self) -> None:
        for task in self._running:
            task.cancel()

    def _start(self, item: Item) -> Coroutine[Any, Any, object]:
        try:
            awaitable = self._handler(item)
        except Exception as error:  # noqa: BLE001 - it ends its own connection only
            return _failing(error)
        # Usually a coroutine: wrapping it would cost 200 bytes a connection.
        return awaitable if isinstance(awaitable, Coroutine) else _awaiting(awaitable)

    def _end(self, task: asyncio.Task[object]) -> None:
        item = self._running.pop(task)
        item.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log(item, error)
        self.wake_all()

    async def _end_all(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        self.cancel()
        while self._running:
            try:
                await asyncio.wait(self._running)
            except asyncio.CancelledError as error:  # once more, while the handlers clean up
                cancelled = error
        if cancelled is not None:
            raise cancelled


class _TrioTasks(ConnectionTasks[Item]):
    __slots__ = ("_count", "_scope")

    def __init__(self, handler: Callable[[Item], Awaitable[object]], limit: float) -> None:
        super().__init__(handler, limit)
        self._count = 0
        self._scope: trio.CancelScope | None = None

    async def serve(self, accept: Callable[[], Awaitable[Item | None]]) -> None:
        import trio

        failed: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            try:
                while (item := await self._accept_next(accept)) is not None:
                    self._count += 1
                    nursery.start_soon(self._run, item)
            except Exception as error:  # noqa: BLE001 - raised below, by itself and not in a group
                failed = error
                nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def _run(self, item: Item) -> None:
        try:
            await self._handler(item)
        except Exception as error:  # noqa: BLE001 - it ends its own connection only
            _log(item, error)
        finally:
            item.close()
            self._count -= 1
            self.wake_all()

    @property
    def running(self) -> int:
        return self._count

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


async def _failing(error: Exception) -> object:
    raise error


async def _awaiting(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _log(item: object, error: BaseException) -> None:
    if _is_all(error, anyio.EndOfStream):
        _logger.debug("%r: the handler met the end of a stream", item)  # usually its own: the peer left
    elif _is_all(error, anyio.EndOfStream, anyio.BrokenResourceError):
        _logger.warning("%r: the handler ended: %s", item, _first(error))  # usually its own: the peer left with messages unread
    else:
        _logger.error("%r: the handler failed", item, exc_info=error)


def _is_all(error: BaseException, *kinds: type[Exception]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_all(one, *kinds) for one in error.exceptions)
    return isinstance(error, kinds)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
