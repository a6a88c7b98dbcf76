"""Waiting for a ring in shared memory: spin on its numbers; to park, ask the peer first to wake this end by the doorbell.

The doorbell is a socket: one direction's readiness serves both, and a task that drains it wakes all.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar, Protocol

from aipc._io import fork
from aipc._io.loop import backend
from aipc._io.loop.reactor import READ, Reactor
from aipc._io.readiness import Readiness
from aipc._io.waiter import Look, Owner, Waiter

_POLLS = 128
"""How often to look at the memory between two turns of the loop: a look costs a tenth of a system call."""


class RingEnd(Protocol):
    """One end of a ring (`wire.ring`)."""

    def sleep(self) -> bool: ...

    def watch(self, looks: int) -> bool: ...


class RingReadable(Readiness):
    """Waits for the producer's records, on the doorbell."""

    YIELDS_TO_CROWD: ClassVar[bool] = False  # to park costs three times a switch of processes here

    __slots__ = ("_end", "_met")

    budget: int

    def __init__(self, owner: Owner, fd: int, end: RingEnd) -> None:
        super().__init__(owner, fd, READ)
        self._end = end
        self._met = False  # whether the last brief poll found a record

    def poll_briefly(self) -> bool:
        """Whether a first try is worth while, before `attempt` is called; looks a while for a record if spinning pays."""
        if self.budget <= 0 or self._generation != fork.generation:
            return False
        self.budget -= 1
        reactor = self._reactor
        if reactor is None or not self.spins or not reactor.spin.pays():
            return self._end.watch(1)
        if self._met:  # counted only now, while the peer works: a message that is there is taken first
            reactor.spin.was_quick()
        self._met = self._end.watch(_looks(reactor))
        return self._met

    def wake(self) -> None:
        """Let all try again: the two directions wait for different things."""
        self.wake_all()

    def _park(self, reactor: Reactor, *, front: bool) -> Awaitable[bool | None]:
        if self._end.sleep():
            return backend.checkpoint()
        return super()._park(reactor, front=front)

    def park_on_doorbell(self, *, front: bool) -> Awaitable[bool | None]:
        """Wait for the doorbell on behalf of the other direction."""
        return super()._park(self._current_reactor(), front=front)

    def rearm(self) -> None:
        """The doorbell was not drained to its end: the next wait must find it ready, though no edge comes."""
        self._leave_loop()
        self.wake_all()

    def _spin_begins(self, _: Reactor) -> None: ...

    def _look(self, reactor: Reactor) -> Look:
        return Look.PROMISING if self._end.watch(_looks(reactor)) else Look.NOTHING


class RingWritable(Waiter):
    """Waits for the consumer to make room, on the same doorbell."""

    __slots__ = ("_doorbell", "_end")

    def __init__(self, owner: Owner, end: RingEnd, doorbell: RingReadable) -> None:
        super().__init__(owner)
        self._end = end
        self._doorbell = doorbell

    def _park(self, reactor: Reactor, *, front: bool) -> Awaitable[bool | None]:
        return backend.checkpoint() if self._end.sleep() else self._doorbell.park_on_doorbell(front=front)

    def _wait_cancelled(self, parked: Awaitable[bool | None]) -> None:
        self._doorbell._wait_cancelled(parked)

    def wake_all(self) -> None:
        """Let all try again: they are in the doorbell's queue."""
        self._doorbell.wake_all()

    def _leave_loop(self) -> None: ...

    def _look(self, reactor: Reactor) -> Look:
        return Look.PROMISING if self._end.watch(_looks(reactor)) else Look.NOTHING

    def close(self) -> None:
        self._doorbell.wake_all()


def _looks(reactor: Reactor) -> int:
    return 1 if reactor.spin.brief else _POLLS
