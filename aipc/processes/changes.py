"""Waiting for something of this loop to become true."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Changes:
    """Tasks that wait for conditions; whoever changes what they look at calls `tell`."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds. Cancelled: nothing happened."""
        while not condition():
            await self.next()

    async def next(self) -> None:
        """Wait until something changes. Cancelled: nothing happened."""
        if self._next is None:
            self._next = anyio.Event()
        await self._next.wait()

    def tell(self) -> None:
        """Something changed: all who wait look again."""
        if self._next is not None:
            event, self._next = self._next, None
            event.set()
