"""Waiting for a descriptor to become readable or writable."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import ClassVar

from .loop import backend
from .loop.wait_queue import KernelWait
from .waiter import Owner, Waiter


class Direction(Enum):
    """What a `Readiness` waits for."""

    READ = select.POLLIN
    WRITE = select.POLLOUT


class Readiness(Waiter):
    """Any number of tasks that wait for one direction of one descriptor.

    On asyncio and uvloop the loop's reactor watches the descriptor. trio has no lasting registration: there, one task waits
    in the kernel, in its place of the queue.
    """

    SPIN_SECONDS: ClassVar[float] = 50e-6  # a wake-up through the kernel costs 20 to 60
    _probes = 16

    __slots__ = ("_direction", "_fd", "_in_kernel", "_watched")

    def __init__(self, owner: Owner, fd: int, direction: Direction, *, spins: bool = True) -> None:
        super().__init__(owner, spins=spins)
        self._fd = fd
        self._direction = direction
        self._watched = False  # by `_reactor`
        self._in_kernel = False  # a task of trio's

    def _park(self, *, front: bool) -> Awaitable[bool | None]:
        loop = asyncio._get_running_loop()
        if not self._watched or self._reactor is None or self._reactor.loop is not loop or loop is None:
            if backend.in_trio():
                return self._park_in_trio(front=front)
            self._current_reactor().watch(self._fd, self._direction.value, self)
            self._watched = True
            assert loop is not None
        return self._queue_on(loop, front=front)

    def fired(self) -> None:
        """The reactor saw the descriptor become ready."""
        if self._first is not None:
            self.wake()
        else:
            self._leave_loop()

    def _leave_loop(self) -> None:
        if self._watched and self._reactor is not None:
            self._watched = False
            self._reactor.unwatch(self._fd, self._direction.value)

    def _probe(self) -> Callable[[], object]:
        poll = select.poll()
        poll.register(self._fd, self._direction.value)
        return partial(poll.poll, 0)

    def _park_in_trio(self, *, front: bool) -> Awaitable[bool | None]:
        self._leave_loop()
        return self._queue_in_trio(front=front) if self._in_kernel else self._wait_in_trio(front=front)

    async def _wait_in_trio(self, *, front: bool) -> bool:
        import trio

        wait = trio.lowlevel.wait_readable if self._direction is Direction.READ else trio.lowlevel.wait_writable
        place = KernelWait(self._fd)
        self._add(place, front=front)
        self._in_kernel = True
        try:
            with suppress(trio.ClosedResourceError):  # interrupted: the retry finds out why
                await wait(self._fd)
        finally:
            self._in_kernel = False
            self._discard(place)
        return True

    def close(self) -> None:
        """Leave the loop, before the descriptor's number can be used again; every waiter retries and finds it closed."""
        self._ready = None  # it would ask about the number, which may be another object's soon
        self._leave_loop()
        self.wake_all()
