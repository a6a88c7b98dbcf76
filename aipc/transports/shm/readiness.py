"""Waiting for a ring in shared memory: spin on its numbers; to park, ask the peer for a ring of the doorbell first.

The doorbell is a socket: one direction's readiness serves both, and whoever drains it wakes all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, Protocol

from aipc._io import fork
from aipc._io.loop import backend
from aipc._io.readiness import Direction, Readiness
from aipc._io.waiter import Owner, Waiter

_POLLS = 128
"""How often to look at the memory between two turns of the loop: a look costs a tenth of a poll(2)."""


class End(Protocol):
    """One end of a ring (`wire.ring`)."""

    def sleep(self) -> bool: ...

    def watch(self, looks: int) -> bool: ...


class RingReadable(Readiness):
    """Waits for the producer's records, on the doorbell."""

    _probes = 1

    __slots__ = ("_end",)

    budget: int

    def __init__(self, owner: Owner, fd: int, end: End) -> None:
        super().__init__(owner, fd, Direction.READ)
        self._end = end

    def poll_briefly(self) -> bool:
        """Whether a first try is worth while, before `attempt` is called; looks a while for a record if spinning pays."""
        if self.budget <= 0 or self._generation != fork.generation:
            return False
        self.budget -= 1
        if self._ready is None or self._spinning():
            return self._end.watch(1)
        there = self._end.watch(_POLLS)
        if there and self._penalty > 1:
            self._penalty //= 2
        return there

    def wake(self) -> None:
        """Let all try again: the two directions wait for different things."""
        self.wake_all()

    def _park(self, *, front: bool) -> Awaitable[bool | None]:
        if self._end.sleep():
            self._spin_next()  # the peer was quicker than parking
            return backend.checkpoint()
        return super()._park(front=front)

    def park(self) -> Awaitable[bool | None]:
        """Wait for the doorbell, whatever for."""
        return super()._park(front=False)

    async def _wait_in_trio(self, *, front: bool) -> bool:
        try:
            return await super()._wait_in_trio(front=front)
        finally:
            self.wake_all()  # whatever becomes of this task: it may be one that waits for room, and wakes nobody here

    def rearm(self) -> None:
        """The doorbell was not drained to its end: the next wait is to find it ready, though no edge comes."""
        self._leave_loop()
        self.wake_all()

    def _probe(self) -> Callable[[], object]:
        return partial(self._end.watch, _POLLS)


class RingWritable(Waiter):
    """Waits for the consumer to make room, on the same doorbell."""

    SPIN_SECONDS: ClassVar[float] = RingReadable.SPIN_SECONDS
    _probes = 1

    __slots__ = ("_doorbell", "_end")

    def __init__(self, owner: Owner, end: End, doorbell: RingReadable) -> None:
        super().__init__(owner)
        self._end = end
        self._doorbell = doorbell

    def _park(self, *, front: bool) -> Awaitable[bool | None]:
        return backend.checkpoint() if self._end.sleep() else self._doorbell.park()

    def _wait_cancelled(self, parked: Awaitable[bool | None]) -> None:
        self._doorbell._wait_cancelled(parked)

    def wake_all(self) -> None:
        """Let all try again: they are in the doorbell's queue."""
        self._doorbell.wake_all()

    def _leave_loop(self) -> None: ...

    def _probe(self) -> Callable[[], object]:
        return partial(self._end.watch, _POLLS)

    def close(self) -> None:
        self._ready = None
        self._doorbell.wake_all()
