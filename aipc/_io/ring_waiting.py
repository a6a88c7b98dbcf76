"""Waiting for a ring in shared memory: spin on its numbers; to park, ask the peer for a ring of the doorbell first.

The doorbell is a socket: one direction's readiness serves both, and whoever drains it wakes all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from aipc._sys import membarrier

from . import loops
from .attempt import Waiting
from .readiness import Direction, Readiness

if TYPE_CHECKING:
    from .handle import Handle


class End(Protocol):
    """One end of a ring (`wire.ring`)."""

    def sleep(self, everywhere: Callable[[], None] | None) -> bool: ...

    def moved(self) -> bool: ...


class Records(Readiness):
    """Waits for the producer's records, on the doorbell."""

    PROBES_A_TURN: ClassVar[int] = 64  # a look at memory costs a tenth of a poll(2)

    __slots__ = ("_end",)

    def __init__(self, owner: Handle, fd: int, end: End) -> None:
        super().__init__(owner, fd, Direction.READ)
        self._end = end

    def _park(self) -> Awaitable[None]:
        return loops.turning()() if _asks(self._end) else super()._park()

    def park(self) -> Awaitable[None]:
        """Wait for the doorbell, whatever for."""
        return super()._park()

    def _probe(self) -> Callable[[], object]:
        return self._end.moved


class Room(Waiting):
    """Waits for the consumer to make room, on the same doorbell."""

    SPIN_SECONDS: ClassVar[float] = Records.SPIN_SECONDS
    PROBES_A_TURN: ClassVar[int] = Records.PROBES_A_TURN

    __slots__ = ("_bell", "_end")

    def __init__(self, owner: Handle, end: End, bell: Records) -> None:
        super().__init__(owner)
        self._end = end
        self._bell = bell

    def _park(self) -> Awaitable[None]:
        return loops.turning()() if _asks(self._end) else self._bell.park()

    def _probe(self) -> Callable[[], object]:
        return self._end.moved

    def close(self) -> None:
        self._ready = None
        self._bell.rouse()


def _asks(end: End) -> bool:
    """Ask for the doorbell. True if there is no need to wait for it after all."""
    try:
        return end.sleep(membarrier.everywhere if membarrier.registered() else None)
    except BlockingIOError:
        return False  # the peer has not offered its memory yet, and will ring when it does
