"""The one loop that carries everything: try the system call; if it would block, wait; retry.

Nothing is awaited after an operation succeeded, so a cancelled `attempt` did not happen. A wait has no side effect. How
to wait is the subclass's: `readiness` for what has a descriptor, `polling` for what has none.

One rule prevents lost wake-ups: a task that stops waiting, by a success, an error or a cancellation, wakes the next one.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from time import perf_counter
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar, TypeVarTuple

import anyio

from aipc._sys import probes

from . import fork, long_waits
from .loop import backend
from .loop.backend import asyncio_loop, in_trio_task
from .loop.reactor import Reactor, reactor_of
from .loop.spin import LONGEST, MOST_IN_A_ROW
from .loop.wait_queue import WaitQueue

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

BUDGET = 128
"""Immediate successes in a row before a turn of the loop: a busy channel must not starve the rest."""
LONG_MESSAGE_PATIENCE = 3
"""How many times longer to spin in the middle of a long message: its rest comes as fast as the peer can copy."""


class Look(Enum):
    """What a look has found, while a task spins."""

    NOTHING = "nothing"
    OTHERS = "an event of other tasks, which must have their turn"
    PROMISING = "a try may succeed"


class _Outcome(Enum):
    BLOCKED = "the operation would block"


_BLOCKED = _Outcome.BLOCKED
_NOTHING: list[Any] = []  # shared: an owner that has something puts a list of its own in its place


class Owner(Protocol):
    """The object that a waiter belongs to."""

    generation: int

    def check(self) -> None:
        """Raise OSError if it is closed, ForkedError in a forked child."""

    def explain(self, error: OSError) -> Exception:
        """The error to raise in place of a failed system call's."""


class Waiter(WaitQueue, ABC):
    """One direction of one object: all tasks that wait for it, and its budget.

    `buffered`: what the owner has read and not yet handed out. `exhausted`: the last try left nothing in the kernel, and the
    reactor will tell when there is something again, so that a try would be in vain. `awaits_others`: nothing was sent since the
    last message, so other tasks have to send. `in_long_message`: one is under way. The waiter does not keep its owner.
    """

    _AWAITED: ClassVar[str] = "available"
    LONGEST_SPIN: ClassVar[float] = LONGEST
    YIELDS_TO_CROWD: ClassVar[bool] = False  # whether to park is better than to spin where other threads want the processor
    __slots__ = (
        "_generation", "_owner", "_paused", "_reactor", "awaits_others", "budget", "buffered", "exhausted", "in_long_message",
        "quick", "retries", "spins",
    )  # fmt: skip

    def __init__(self, owner: Owner, *, spins: bool = True) -> None:
        super().__init__()
        self._owner = weakref.ref(owner)
        self.awaits_others: bool = False
        self.budget: int = BUDGET
        self.in_long_message: bool = False
        self.buffered: list[Any] = _NOTHING
        self.exhausted: bool = False
        self._generation = owner.generation  # which may be older: a sending side is made at the first send
        self._paused = False
        self.retries: bool = False  # a woken task has not tried yet: a second one would only lose its place
        self.quick: int = 0  # up to 32: how many spins met their event at the first look; halved by one that does not
        self.spins: bool = spins and probes.enabled("spin")
        self._reactor: Reactor | None = None  # of the loop that it was last waited for in

    @property
    def owner(self) -> Owner:
        """The object that is waited for; a task that waits keeps it."""
        owner = self._owner()
        assert owner is not None
        return owner

    @abstractmethod
    def _park(self, reactor: Reactor, *, front: bool) -> Awaitable[bool | None]:
        """Wait until a retry may succeed; `front`: before all others. No side effect; a cancellation point.

        Gives whether to wait at the front if the retry is in vain.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what waiting took; every waiter retries and finds the object closed."""

    @abstractmethod
    def _leave_loop(self) -> None:
        """Give back what waiting took in `_reactor`'s loop."""

    def purpose(self) -> str:
        """The object, and until when its tasks wait, for log messages."""
        return f"{getattr(self._owner(), 'name', 'an object')}: until it is {self._AWAITED}"

    def _wait_begins(self) -> None:
        """A wait begins that did not end while spinning."""

    def _wait_cancelled(self, parked: Awaitable[bool | None]) -> None:
        """A parked task was cancelled, perhaps after it was woken."""
        self._discard(parked)

    def _spin_begins(self, reactor: Reactor) -> None:
        """Prepare `_look`."""

    def _spin_ends(self) -> None:
        """It is not asked any more."""

    def _look(self, reactor: Reactor) -> Look:
        """Look a few times, without a side effect on the object."""
        return Look.PROMISING

    def _current_reactor(self) -> Reactor:
        """What aipc has in the loop that runs here."""
        reactor = self._reactor
        if reactor is None or reactor.loop is not asyncio_loop() or in_trio_task():
            loop = backend.current()
            if reactor is None or reactor.loop is not loop:
                self._leave_loop()
                reactor = self._reactor = reactor_of(loop)
        return reactor

    async def attempt(
        self, operation: Callable[[*Arguments], Result], *arguments: *Arguments, front: bool | None = False
    ) -> Result:
        """Call `operation(*arguments)` until it does not raise BlockingIOError, waiting in between, `front` before all others.

        Cancelled: the operation did not happen. An OSError comes out as the owner explains it.
        """
        if self._generation != fork.generation:
            self._refuse_fork()
        if self.budget <= 0:
            self.budget = BUDGET  # first: of many tasks that come one after the other, one takes the turn for all
            await backend.checkpoint()
        self.budget -= 1
        result: Result | _Outcome = _BLOCKED
        try:
            if not self.exhausted or self.buffered:
                result = _try(operation, *arguments)
            while result is _BLOCKED and self._paused:
                await self._turn()
                result = _try(operation, *arguments)
            if result is _BLOCKED:
                reactor = self._current_reactor()
                deadline = reactor.spin.wait_begins(LONG_MESSAGE_PATIENCE if self.in_long_message else 1, self.LONGEST_SPIN)
                if deadline and self.spins and not (self.YIELDS_TO_CROWD and reactor.crowd.is_there()):
                    result = await self._spin(reactor, deadline, operation, *arguments)
                if result is _BLOCKED:
                    self.budget = BUDGET
                    self._wait_begins()
                    long_waits.begins(self, reactor.loop)
                    while result is _BLOCKED:
                        parked = self._turn() if self._paused else self._park(reactor, front=bool(front))
                        try:
                            front = await parked
                        except BaseException:
                            self._wait_cancelled(parked)
                            raise
                        result = _try(operation, *arguments)
                    reactor.spin.wait_ends()
        except OSError as error:
            raise self.owner.explain(error) from error
        finally:
            if self._first is not None or self.retries:
                self.wake()
        return result

    def attempt_nowait(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call `operation(*arguments)` once: anyio.WouldBlock where `attempt` would wait."""
        if self._generation != fork.generation:
            self._refuse_fork()
        self.budget = max(self.budget, 1)  # a plain call can take no turn
        try:
            return self.try_now(operation, *arguments)
        except BlockingIOError:
            raise anyio.WouldBlock from None
        except OSError as error:
            raise self.owner.explain(error) from error

    def try_now(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """The first try of `attempt`. On any OSError the caller calls `attempt`, which waits or explains the error."""
        if self.budget <= 0 or self._generation != fork.generation:
            raise BlockingIOError  # `attempt` must turn the loop first, or refuse a forked child
        self.budget -= 1
        try:
            result = operation(*arguments)
        except Exception as error:
            if self._first is not None and not isinstance(error, BlockingIOError):
                self.wake()  # it must meet the error, too
            raise
        if self._first is not None:
            self.wake()
        return result

    def yield_to_loop(self) -> NoReturn:
        """Stop an operation that could go on, but has kept the loop long enough: `attempt` goes on after a turn of the loop."""
        self._paused = True
        raise BlockingIOError

    async def _turn(self) -> None:
        self._paused = False
        await backend.checkpoint()

    def _refuse_fork(self) -> None:
        try:
            self.owner.check()
        except OSError as error:
            raise self.owner.explain(error) from error

    def turns_first(self, reactor: Reactor) -> bool:
        """Whether other tasks run before this one looks for the first time."""
        ready = reactor.others_ready
        return reactor.spin.in_a_row > MOST_IN_A_ROW or (self.awaits_others if ready is None else ready() > 0)

    async def _spin(
        self, reactor: Reactor, deadline: float, operation: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result | _Outcome:
        """Retry without sleeping, with turns of the loop in between, until `deadline`."""
        spin, at_once = reactor.spin, True
        try:
            self._spin_begins(reactor)
            spin.begins()  # a signal's handler may raise, here and later
            turn = self.turns_first(reactor)
            while True:
                if turn:
                    self.budget, spin.in_a_row = BUDGET, 0
                    await reactor.turn()
                found = self._look(reactor)
                if found is Look.PROMISING:
                    result = _try(operation, *arguments)
                    if result is not _BLOCKED:
                        spin.was_useful(at_once=at_once)
                        self.quick = min(self.quick + 1, 32) if at_once else self.quick // 2
                        return result
                at_once = False
                if spin.gave_enough or perf_counter() >= deadline:
                    break
                if found is not Look.OTHERS:
                    spin.give_way()
                turn = found is Look.OTHERS or not spin.lost
        finally:
            spin.active = False
            self._spin_ends()
        spin.in_vain()
        self.quick //= 2
        return _try(operation, *arguments)  # a task that parks must have tried just now


def _try(operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result | _Outcome:
    # A function of its own: an exception that passes through a coroutine leaves a frame object behind for as long as the
    # coroutine waits, 200 bytes for each idle connection.
    try:
        return operation(*arguments)
    except BlockingIOError:
        return _BLOCKED
