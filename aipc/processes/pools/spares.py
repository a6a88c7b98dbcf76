"""Spare workers of a pool: interpreters that have imported the function, and wait to begin it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from aipc._child.termination import terminate
from aipc._opening.openers import Opening

from ..asking import AskingChannel
from ..workers.worker import Worker

_logger = logging.getLogger("aipc")


def asking(worker: Worker) -> AskingChannel:
    """Return the pool's end of the channel to a worker."""
    return cast(AskingChannel, worker.channel)


class Spares:
    """Starts workers, and keeps `n` more of them ready. Nothing here is suspended except in `drop`, so no worker is lost.

    A spare that has died is replaced when a worker is needed, not before: one that dies each time costs one process a worker.
    """

    __slots__ = ("_closed", "_grace", "_n", "_start", "_waiting")

    def __init__(self, start: Callable[[], Opening[Worker]], n: int, grace: float) -> None:
        self._start = start
        self._n = n
        self._grace = grace
        self._waiting: list[Worker] = []
        self._closed = False

    async def take(self) -> Worker:
        """Return a spare worker, or a new one if there is none. OSError if it cannot start."""
        worker = next((spare for spare in self._waiting if spare.returncode is None), None)
        if worker is None:
            worker = await self._start()
        else:
            self._waiting.remove(worker)
        await self._refill()
        return worker

    async def _refill(self) -> None:
        while len(self._waiting) < self._n and not self._closed:
            try:
                self._waiting.append(await self._start())
            except OSError as error:
                _logger.error("a spare worker of the pool cannot start: %s", error)  # noqa: TRY400
                break

    async def drop(self) -> None:
        """End the present spares. Cancelled: they have ended, too."""
        spares, self._waiting = self._waiting, []
        try:
            await terminate([spare.child for spare in spares], lambda: None, self._grace, gently=False)
        finally:
            for spare in spares:
                await spare.aclose()

    async def aclose(self) -> None:
        """Keep no more spares. Cancelled: all have ended."""
        self._closed = True
        await self.drop()
