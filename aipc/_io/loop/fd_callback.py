"""A descriptor that calls a function whenever it becomes readable: a timer, a doorbell."""

from __future__ import annotations

from collections.abc import Callable

from .reactor import READ, Reactor


class FdCallback:
    """Calls `function` when `fd` becomes readable, on the reactor's loop; it drains it. `fd` is the caller's to close, after `close`."""

    __slots__ = ("_fd", "_function", "_reactor")

    def __init__(self, reactor: Reactor, fd: int, function: Callable[[], None]) -> None:
        self._fd = fd
        self._function = function
        self._reactor = reactor
        reactor.watch(fd, READ, self)

    def fired(self, _: int) -> None:
        """The reactor saw the descriptor become readable."""
        self._function()

    def close(self) -> None:
        """Leave the loop."""
        self._reactor.unwatch(self._fd, READ)
