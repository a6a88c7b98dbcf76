"""The one loop that carries everything: try the system call; if it would block, wait; retry.

Nothing is awaited after an operation succeeded, so a cancelled `attempt` did not happen. A wait has no side effect. How
to wait is the subclass's: `readiness` for what has a descriptor, `polling` for what has none.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple

import anyio

from aipc._sys import probes

from . import fork, loops
from .loops import WaitQueue

if TYPE_CHECKING:
    from .handle import Handle

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

BUDGET = 128
"""Immediate successes in a row before a turn of the loop: a busy channel must not starve the rest."""
MIDWAY = 3
"""How many times longer to spin in the middle of a long message: its rest comes as fast as the peer can copy."""
MOST_SKIPPED = 256
"""Waits parked without a spin, at most, where spinning does not pay."""


class _Outcome(Enum):
    BLOCKED = "the operation would block"


_BLOCKED = _Outcome.BLOCKED
_spinning: set[Waiting] = set()
"""Who spins: one at a time, because a second one's turns are the first one's delay, and a server has thousands."""
os.register_at_fork(after_in_child=_spinning.clear)
_NOTHING: list[Any] = []  # shared: an owner that has something puts a list of its own in its place


class Waiting(WaitQueue, ABC):
    """One direction of one object: all tasks that wait for it, its budget, and what was learnt about spinning.

    `stock` is what the owner has already read and not yet handed out: no need to ask the kernel while there is some. `midway`:
    a long message is under way.
    """

    SPIN_SECONDS: ClassVar[float]
    """How long a spin tries: about what parking would cost, so that a spin still meets an answer from a peer that parked."""
    PROBES_A_TURN: ClassVar[int]
    """How often to ask `_probe` between two turns of the loop while spinning."""

    __slots__ = ("_generation", "_penalty", "_ready", "_skip", "budget", "midway", "owner", "stock")

    def __init__(self, owner: Handle, *, spins: bool = True) -> None:
        super().__init__()
        self.owner: Handle = owner
        self.budget: int = BUDGET
        self.midway: bool = False
        self.stock: list[Any] = _NOTHING
        self._generation = owner.generation  # which may be older: a sending side is made at the first send
        self._penalty = 1
        self._skip: float = 0 if spins and probes.enabled("spin") else math.inf
        self._ready: Callable[[], object] | None = None  # kept only while spinning pays

    @abstractmethod
    def _park(self) -> Awaitable[None]:
        """Wait until a retry may succeed. No side effect; a cancellation point."""

    @abstractmethod
    def close(self) -> None:
        """Give back what waiting took; every waiter retries and finds the object closed."""

    def _begin(self) -> None:
        """A wait begins that did not end while spinning."""

    def _probe(self) -> Callable[[], object]:
        """A cheap question, true when a try may succeed, to ask while spinning."""
        return _always

    def _spin_next(self) -> None:
        """Spinning would have paid just now."""
        if self._skip != math.inf:
            self._skip = 0

    async def attempt(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call `operation(*arguments)` until it does not raise BlockingIOError, waiting in between; give its result.

        Cancelled: the operation did not happen. An OSError comes out as the owner explains it.
        """
        if self.budget <= 0:
            await loops.turning()()
            self.budget = BUDGET
        self.budget -= 1
        result: Result | _Outcome = _BLOCKED
        try:
            if self._generation != fork.generation:
                self.owner.check()
            if self._ready is None or self.stock or _spinning or self._ready():
                result = _try(operation, *arguments)
            if result is _BLOCKED:
                self.budget = BUDGET
                if self._skip:
                    self._skip -= 1
                elif not _spinning:
                    result = await self._spin(operation, *arguments)
                if result is _BLOCKED:
                    self._begin()
            while result is _BLOCKED:
                await self._park()
                result = _try(operation, *arguments)
        except OSError as error:
            raise self.owner.explain(error) from error
        if self._waiters:
            self.wake()  # the operation may have left more than it took
        return result

    def attempt_nowait(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call `operation(*arguments)` once: anyio.WouldBlock where `attempt` would wait."""
        try:
            if self._generation != fork.generation:
                self.owner.check()
            result = operation(*arguments)
        except BlockingIOError:
            raise anyio.WouldBlock from None
        except OSError as error:
            raise self.owner.explain(error) from error
        if self._waiters:
            self.wake()
        return result

    def spend(self) -> None:
        """For a caller that tries first, and calls `attempt` on an OSError: raises one if `attempt` must look closer."""
        if self.budget <= 0 or self._generation != fork.generation:
            raise BlockingIOError
        self.budget -= 1

    async def _spin(self, operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result | _Outcome:
        """Retry without sleeping, with turns of the loop in between; learn whether that pays."""
        ready = self._ready = self._ready or self._probe()
        _spinning.add(self)
        try:
            patience = MIDWAY if self.midway else 1
            deadline = perf_counter() + patience * self.SPIN_SECONDS
            while True:
                promised = True
                for _ in range(patience * self.PROBES_A_TURN):
                    if ready():
                        break
                else:
                    promised = False
                    os.sched_yield()  # the kernel wakes a peer on the waker's processor, whatever the other one does
                    await loops.turning()()
                try:
                    result = operation(*arguments)
                except BlockingIOError:
                    if perf_counter() >= deadline:
                        break  # and not before a try: who parks must have tried just now
                    if promised:
                        await loops.turning()()  # what is there is for another task
                    continue
                if self._penalty > 1:
                    self._penalty //= 2
                return result
        finally:
            _spinning.discard(self)
        self._ready = None
        alone = len(os.sched_getaffinity(0)) == 1  # then the peer can't even run while we spin
        self._penalty = self._skip = MOST_SKIPPED if alone else min(self._penalty * 2, MOST_SKIPPED)
        return _BLOCKED


def _try(operation: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result | _Outcome:
    # A function of its own: an exception that passes through a coroutine leaves a frame object behind for as long as the
    # coroutine waits, 200 bytes for each idle connection.
    try:
        return operation(*arguments)
    except BlockingIOError:
        return _BLOCKED


def _always() -> bool:
    return True
