"""Waiting until a condition of this event loop becomes true."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Changes:
    """Tasks that wait for conditions. Code that changes what a condition depends on calls `tell`."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true. Cancelled: nothing happened."""
        while not condition():
            await self.next()

    async def next(self) -> None:
        """Wait until the next change. Cancelled: nothing happened."""
        if self._next is None:
            self._next = anyio.Event()
        await self._next.wait()

    def tell(self) -> None:
        """Report a change: every waiting task checks its condition again."""
        if self._next is not None:
            event, self._next = self._next, None
            event.set()
