"""The quick way of a task that must wait to read a message: one call in C looks for events, reads and splits (`_sys/_native.c`).

`Waiter.attempt` is the reference: what this does not understand, it leaves to that.
"""

from __future__ import annotations

from aipc._io import fork
from aipc._io.loop.reactor import Reactor
from aipc._io.readiness import Readiness
from aipc._sys.native import MOST_READ, native

QUICK = 12
"""From then on (`Waiter.quick`) a wait begins here: where the peer is not that quick, a spin in C only delays others."""
_LOOKS = 100
"""Some 30 µs: of round trips over a Unix socket nine in ten ended within, with 32 looks four to eight."""


def spin_and_read(readable: Readiness, kind: int, limit: int) -> tuple[bytes] | bytes | None:
    """Look for events for a while, and read if the descriptor is all that is ready. None: `attempt` does it.

    A tuple has exactly one message, framed with a length of this `kind` (`wire.framing`); bytes are anything else. OSError: of the read.
    """
    if readable.budget <= 0 or readable._paused or readable._first is not None or readable._generation != fork.generation:
        return None
    reactor = readable._current_reactor()
    spin = reactor.spin
    if not (readable.exhausted and readable.spins and spin.pays()) or reactor.crowd.is_there():
        readable.quick //= 2  # soon the task parks without asking here
        return None
    if readable.turns_first(reactor):
        readable.quick //= 2
        return None
    if native is None or reactor._epoll is None:
        return None
    looks, brief = _LOOKS, spin.brief
    if brief:  # the peer runs when this process gives way, or not at all
        looks = 1
        spin.wait_begins()
        try:
            spin.begins()
        finally:
            spin.active = False
    found: list[tuple[int, int]] | tuple[bytes] | bytes | None
    found = native.spin(reactor._epoll.fileno(), readable._fd, looks, kind, limit)
    if isinstance(found, list):
        reactor.hand_out(found)
        found = None
    if found is None:
        readable.quick //= 2
        return None
    readable.budget -= 1
    readable.empty = False
    readable.quick = min(readable.quick + 1, 32)
    if brief:
        spin.was_useful(at_once=True)
    else:
        spin.was_quick()
        spin.in_a_row += spin.in_a_row > 0
    if len(found) == MOST_READ:
        readable.exhausted = False
    return found


def read_beside(readable: Readiness, fd: int, reactor: Reactor, looks: int) -> bytes | None:
    """Look so often for something to read, though another task waits for it, which will find nothing. None: there was nothing.

    Empty, too, if there was something for other tasks, which must have their turn. OSError: of the read.
    """
    if native is None or reactor._epoll is None:
        return None
    found: list[tuple[int, int]] | bytes | None = native.spin(reactor._epoll.fileno(), fd, looks, 0, 0)
    if isinstance(found, list):
        reactor.hand_out(found)
        return b""
    if found is not None and len(found) == MOST_READ:
        reactor.fire_if_ready(fd)  # there may be more, and its event is consumed
    return found
