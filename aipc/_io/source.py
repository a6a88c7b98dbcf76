"""A descriptor that calls a function whenever it becomes readable: a timer, a doorbell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import loops
from .reactor import READ, Reactor, reactor_of


class Source:
    """Calls `fired` when `fd` is readable, on the loop that runs now; `fired` drains it. `fd` is the caller's to close, after `close`.

    trio's runs leave no trace by which to tell later that they are over: `ended` is called when one ends before `close`.
    """

    __slots__ = ("_closed", "_ended", "_fd", "_reactor", "_trio_task", "fired")

    def __init__(self, fd: int, fired: Callable[[], None], ended: Callable[[], None] | None = None) -> None:
        self._fd = fd
        self.fired = fired
        self._ended = ended
        self._reactor: Reactor | None = None
        self._trio_task = False
        self._closed = False
        if loops.in_trio():
            self._trio_task = True
            loops.start_soon(self._run_in_trio)
        else:
            self._reactor = reactor_of(asyncio.get_running_loop())
            self._reactor.watch(fd, READ, self)

    async def _run_in_trio(self) -> None:
        import trio

        try:
            while not self._closed:  # perhaps before this task's first turn
                await trio.lowlevel.wait_readable(self._fd)
                if not self._closed:  # or between the event and this turn
                    self.fired()
        except trio.ClosedResourceError:
            pass  # closed while waiting
        finally:
            self._trio_task = False
            if self._ended is not None and not self._closed:
                self._ended()

    def close(self) -> None:
        """Leave the loop."""
        self._closed = True
        if self._reactor is not None:
            self._reactor.unwatch(self._fd, READ)
        elif self._trio_task:
            import trio

            trio.lowlevel.notify_closing(self._fd)
