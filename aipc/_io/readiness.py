"""Waiting for a descriptor to become readable or writable."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

from .loop.reactor import ENDS_READS, READ, Reactor
from .waiter import Look, Owner, Waiter


class Readiness(Waiter):
    """Any number of tasks that wait for one direction, READ or WRITE, of one descriptor, which the loop's reactor watches.

    `trusts_edges`: the reactor watches the descriptor, and it has neither hung up nor urgent data. Then a read that comes short of what
    was asked for has taken all that there was, and the next byte fires (epoll(7)); that is certain if `empty`, else the reactor makes sure.
    `reception`: what the task that waits first is parked in, if the loop reads for it (`transports/channel_in_c`).
    """

    YIELDS_TO_CROWD: ClassVar[bool] = True
    _LOOKS: ClassVar[int] = 32  # for events, between two turns of the loop

    __slots__ = ("_direction", "_fd", "_fired", "_watched", "empty", "reception", "trusts_edges")
    exhausted: bool  # of Waiter; declared again, because pyright takes what is set below for a new attribute

    def __init__(self, owner: Owner, fd: int, direction: int, *, spins: bool = True) -> None:
        super().__init__(owner, spins=spins)
        self._fd = fd
        self._direction = direction
        self._fired: bool | None = None  # whether an event came while a task spins
        self._watched = False  # by `_reactor`
        self.trusts_edges: bool = False
        self.empty: bool = False
        self.reception: object = None

    def purpose(self) -> str:
        """The object, and until when its tasks wait, for log messages."""
        return f"{super().purpose()} to {'read' if self._direction == READ else 'write'}"

    def _park(self, reactor: Reactor, *, front: bool) -> Awaitable[bool | None]:
        if not self._watched:
            self._watch(reactor)
        elif self.exhausted and not self.empty:
            reactor.fire_if_ready(self._fd)
        return self._queue_in(reactor.loop, front=front)

    def _watch(self, reactor: Reactor) -> None:
        reactor.watch(self._fd, self._direction, self)
        self._watched = self.trusts_edges = True

    def fired(self, event: int) -> None:
        """The reactor saw the descriptor become ready."""
        known, self.exhausted, self.empty = not self.exhausted, False, False
        if event & ENDS_READS:
            self.trusts_edges = False  # no edge follows the end of the stream, nor what is behind urgent data
        if self._first is not None:
            self.wake()
            if self._reactor is not None:
                self._reactor.spin.in_a_row = self._reactor.spin.in_a_row or 1
        elif self._fired is not None:
            self._fired = True
        elif known:
            self._leave_loop()  # no task has read since the last event: no more events until one waits

    def _leave_loop(self) -> None:
        self.exhausted = self.trusts_edges = False
        if self._watched and self._reactor is not None:
            self._watched = False
            self._reactor.unwatch(self._fd, self._direction)

    def _spin_begins(self, reactor: Reactor) -> None:
        if not self._watched:
            self._watch(reactor)
        self._fired = False

    def _spin_ends(self) -> None:
        self._fired = None

    def _look(self, reactor: Reactor) -> Look:
        for _ in range(1 if reactor.spin.brief else self._LOOKS):
            if self._fired or reactor.poll_now():
                found = Look.PROMISING if self._fired else Look.OTHERS
                self._fired = False
                return found
        return Look.NOTHING

    def close(self) -> None:
        """Leave the loop, before the descriptor's number can be used again; every waiter retries and finds it closed."""
        self._leave_loop()
        self.wake_all()
