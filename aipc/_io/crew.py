"""One task for each connection of a server, all ended together: what a task group does, in two fifths of its memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from . import loops

_logger = logging.getLogger("aipc")


class _Closable(Protocol):
    def close(self) -> None: ...


Item = TypeVar("Item", bound=_Closable)


async def serve(accept: Callable[[], Awaitable[Item]], handler: Callable[[Item], Awaitable[object]]) -> None:
    """Run `handler(item)` as a task for each accepted item, and close the item when it ends.

    A handler's error is logged. Cancelled, or an error of `accept`: all handlers are cancelled and ended before it raises.
    """
    if loops.in_trio():
        await _serve_in_trio(accept, handler)
    else:
        await _Crew(handler).serve(accept)


async def _serve_in_trio(accept: Callable[[], Awaitable[Item]], handler: Callable[[Item], Awaitable[object]]) -> None:
    import trio

    async def run(item: Item) -> None:
        try:
            await handler(item)
        except Exception as error:  # noqa: BLE001 - it ends its own connection only
            _log(item, error)
        finally:
            item.close()

    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            while True:
                nursery.start_soon(run, await accept())
        except Exception as error:  # noqa: BLE001 - raised below, by itself and not in a group
            failed = error
            nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed


class _Crew(Generic[Item]):
    def __init__(self, handler: Callable[[Item], Awaitable[object]]) -> None:
        self._handler = handler
        self._running: dict[asyncio.Task[object], Item] = {}
        self._ended = self._end  # one bound method for all tasks

    async def serve(self, accept: Callable[[], Awaitable[Item]]) -> None:
        try:
            while True:
                item = await accept()
                task = asyncio.create_task(self._start(item), name="aipc connection")
                self._running[task] = item
                task.add_done_callback(self._ended)
        finally:
            await self._cancel()

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

    async def _cancel(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        for task in self._running:
            task.cancel()
        while self._running:
            try:
                await asyncio.wait(self._running)
            except asyncio.CancelledError as error:  # once more, while the handlers clean up
                cancelled = error
        if cancelled is not None:
            raise cancelled


async def _failing(error: Exception) -> object:
    raise error


async def _awaiting(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _log(item: object, error: BaseException) -> None:
    _logger.error("%r: the handler failed", item, exc_info=error)
