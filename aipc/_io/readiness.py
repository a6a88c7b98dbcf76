"""Waiting for a descriptor to become readable or writable."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from . import loops
from .attempt import Waiting
from .reactor import Reactor, reactor_of

if TYPE_CHECKING:
    from .handle import Handle


class Direction(Enum):
    """What a `Readiness` waits for."""

    READ = select.POLLIN
    WRITE = select.POLLOUT


class Readiness(Waiting):
    """Any number of tasks that wait for one direction of one descriptor.

    On asyncio and uvloop the loop's reactor watches the descriptor. trio has no lasting registration: there, one task waits
    in the kernel for all (`trio_waits`), and sees nothing of what another one has read meanwhile, unless that calls `rouse`.
    """

    SPIN_SECONDS: ClassVar[float] = 50e-6  # a wake-up through the kernel costs 20 to 60
    PROBES_A_TURN: ClassVar[int] = 16

    __slots__ = ("_direction", "_fd", "_reactor", "trio_waits")

    def __init__(self, owner: Handle, fd: int, direction: Direction, *, spins: bool = True) -> None:
        super().__init__(owner, spins=spins)
        self._fd = fd
        self._direction = direction
        self._reactor: Reactor | None = None
        self.trio_waits: bool = False

    def _park(self) -> Awaitable[None]:
        loop = asyncio._get_running_loop()
        reactor = self._reactor
        if loop is None or ((reactor is None or reactor.loop is not loop) and loops.in_trio()):
            return self._queue_in_trio() if self.trio_waits else self._wait_in_trio()
        if reactor is None or reactor.loop is not loop:
            self._unwatch()
            self._reactor = reactor_of(loop)
            self._reactor.watch(self._fd, self._direction.value, self)
        return self._queue_on(loop)

    def fired(self) -> None:
        """The reactor saw the descriptor become ready."""
        if self._waiters:
            self.wake()
        else:
            self._unwatch()

    def _unwatch(self) -> None:
        reactor, self._reactor = self._reactor, None
        if reactor is not None:
            reactor.unwatch(self._fd, self._direction.value)

    def _probe(self) -> Callable[[], object]:
        poll = select.poll()
        poll.register(self._fd, self._direction.value)
        return partial(poll.poll, 0)

    async def _wait_in_trio(self) -> None:
        import trio

        wait = trio.lowlevel.wait_readable if self._direction is Direction.READ else trio.lowlevel.wait_writable
        self.trio_waits = True
        try:
            await wait(self._fd)
        except trio.ClosedResourceError:
            pass  # `rouse`: the retry finds out why
        finally:
            self.trio_waits = False
            self.wake()

    def close(self) -> None:
        """Leave the loop, before the descriptor's number can be used again; every waiter retries and finds it closed."""
        self._ready = None  # it would ask about the number, which may be another object's soon
        self._unwatch()
        self.rouse()

    def rouse(self) -> None:
        """Let every waiting task retry, also the one that waits in the kernel for all others on trio."""
        if self.trio_waits:
            import trio

            trio.lowlevel.notify_closing(self._fd)
        self.wake()
