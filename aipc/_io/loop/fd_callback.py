"""A descriptor that calls a function whenever it becomes readable: a timer, a doorbell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import backend
from .reactor import READ, Reactor


class FdCallback:
    """Calls `fired` when `fd` is readable, on the reactor's loop; `fired` drains it. `fd` is the caller's to close, after `close`."""

    __slots__ = ("_closed", "_fd", "_reactor", "fired")

    def __init__(self, reactor: Reactor, fd: int, fired: Callable[[], None]) -> None:
        self._fd = fd
        self.fired = fired
        self._reactor = reactor
        self._closed = False
        if self._in_asyncio:
            reactor.watch(fd, READ, self)
        else:
            backend.start_soon(self._run_in_trio)

    @property
    def _in_asyncio(self) -> bool:
        return isinstance(self._reactor.loop, asyncio.AbstractEventLoop)

    async def _run_in_trio(self) -> None:
        import trio

        try:
            while not self._closed:  # perhaps before this task's first turn
                await trio.lowlevel.wait_readable(self._fd)
                if not self._closed:  # or between the event and this turn
                    backend.call_all([self.fired])
        except trio.ClosedResourceError:
            pass  # closed while waiting
        finally:
            self._closed = True

    def close(self) -> None:
        """Leave the loop."""
        if self._in_asyncio:
            self._reactor.unwatch(self._fd, READ)
        elif not self._closed:
            import trio

            trio.lowlevel.notify_closing(self._fd)
        self._closed = True
