"""A lock, and waiting under it for a notification, as asyncio.Condition.

Each waiting task has a semaphore of the set, its slot. Its value is the task's ticket, undone when the process dies; who
notifies adds `NOTIFIED`. So the oldest ticket is notified first, and what is left of one that was notified and then died is
`NOTIFIED` alone: whoever sees that passes it on.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeVar, Unpack

import anyio

from aipc._address import Key
from aipc.exceptions import LimitExceeded

from .atomic_set import AtomicSet, Change, Values
from .base import Primitive

if TYPE_CHECKING:
    from aipc._options import ConditionOptions

Result = TypeVar("Result")

LOCK, TICKET, SLOTS = 1, 2, 3
"""1 while the lock is held, undone for the dead; the last ticket given out, from 1 to 16,383; the first of the slots."""
NOTIFIED = 0x4000
_TICKETS = NOTIFIED - 1
MOST_WAITERS = 160
"""A third of what semop(2) takes at once: `notify_all` needs three steps a slot."""


class Condition(Primitive):
    """A lock among all tasks of all processes, under which a task can wait to be notified.

    Opened, it is used as asyncio's: `async with condition:` holds its lock. A holder that is killed frees it, a waiting task
    that is killed is forgotten, and if it had been notified, the next one is instead. `waiters` (128, at most 160) is how many
    tasks can wait at once at a new condition.
    """

    __slots__ = ("_inner",)
    _KIND: ClassVar[int] = 0x4102
    _MORE: ClassVar[frozenset[str]] = frozenset({"waiters"})

    def __init__(self, key: Key, **given: Unpack[ConditionOptions]) -> None:
        self._begin(key, given)
        self._inner: Self | None = None
        if self._waiters > MOST_WAITERS:
            raise self._address.error(f"waiters={self._waiters}: at most {MOST_WAITERS}")

    @property
    def _waiters(self) -> int:
        return int(self._chosen.get("waiters", 128))

    def _first(self) -> tuple[int, ...]:
        return (0,) * (SLOTS - 1 + self._waiters)

    async def __aenter__(self) -> Self:
        """Of one that is not open yet: open it, for the block. Of an open one: hold its lock."""
        if self._opened is not None:
            await self.acquire()
            return self
        if self._inner is not None:
            raise RuntimeError(f"{self._address.url}: this is open already: make another Condition")
        self._inner = copy.copy(self)._open()  # the other one, so that leaving a block means one thing
        return self._inner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.aclose()
        elif error is None or self._state.own[LOCK]:  # a `wait` that failed has let go of it, and its error is what counts
            self.release()

    async def acquire(self) -> Literal[True]:
        """Hold the lock. Cancelled: not held."""
        await self._state.acquire_when(_acquire)
        return True

    def acquire_nowait(self) -> None:
        """`acquire`, or WouldBlock."""
        self._state.update_nowait(_acquire)

    def release(self) -> None:
        """Let go of the lock. RuntimeError if this object does not hold it."""
        state = self._held("release")
        state.update_nowait(lambda _: Change(own={LOCK: -1}))
        state.released()

    def locked(self) -> bool:
        """Whether anybody holds the lock."""
        return bool(self._state.values()[LOCK])

    def _held(self, what: str) -> AtomicSet:
        state = self._state
        state.checked()
        if not state.own[LOCK]:
            raise RuntimeError(f"{state.name}: {what} takes the lock, which this object does not hold")
        return state

    async def wait(self) -> Literal[True]:
        """Let go of the lock, wait to be notified, and hold it again. RuntimeError if it is not held.

        LimitExceeded if all slots are taken. Cancelled: it is held again all the same, for which this waits, and a notification
        that had come goes to the next who waits.
        """
        state = self._held("wait")
        slot = state.update_nowait(self._enqueue)
        state.released()
        try:
            await state.acquire_when(lambda values: _resume(values, slot))
        except anyio.get_cancelled_exc_class():
            _withdraw(state, slot)
            await _reacquire(state)
            raise
        except BaseException:
            _withdraw(state, slot)
            raise
        return True

    async def wait_for(self, predicate: Callable[[], Result]) -> Result:
        """`wait` until `predicate()`, called with the lock held, is true; gives what it gave. Errors and cancellation as there."""
        self._held("wait_for")
        while not (result := predicate()):
            await self.wait()
        return result

    def notify(self, n: int = 1) -> None:
        """Let `n` of the tasks that wait go on, those who have waited longest. RuntimeError if the lock is not held.

        They go on one by one, each once it has the lock.
        """
        state = self._held("notify")
        state.update_nowait(lambda values: _notify(values, n))

    def notify_all(self) -> None:
        """Let all go on that wait now."""
        self.notify(self._state.count)

    def _enqueue(self, values: Values) -> Change:
        if orphan := _orphan(values):
            return orphan
        slot = next((slot for slot in _slots(values) if not values[slot]), None)
        if slot is None:
            raise LimitExceeded(f"{self._address.url}: {len(values) - SLOTS} tasks wait already, as many as it has slots")
        ticket = values[TICKET] % _TICKETS + 1
        return Change(slot, (TICKET, slot), {TICKET: ticket - values[TICKET]}, {slot: ticket, LOCK: -1})


def _slots(values: Values) -> range:
    return range(SLOTS, len(values))


def _waiting(values: Values) -> list[int]:
    """The slots of those who wait and are not notified yet, the oldest first."""
    waiting = [slot for slot in _slots(values) if 0 < values[slot] < NOTIFIED]
    return sorted(waiting, key=lambda slot: (values[slot] - values[TICKET] - 1) % _TICKETS)


def _orphan(values: Values) -> Change | None:
    """Pass on the notification of one who was killed."""
    slot = next((slot for slot in _slots(values) if values[slot] == NOTIFIED), None)
    if slot is None:
        return None
    heirs = _waiting(values)[:1]
    return Change(None, (slot, *heirs), {slot: -NOTIFIED} | dict.fromkeys(heirs, NOTIFIED), again=True)


def _acquire(values: Values) -> Change:
    if values[LOCK]:
        raise BlockingIOError
    return Change(tests=(LOCK,), own={LOCK: 1})


def _notify(values: Values, n: int) -> Change:
    chosen = tuple(_waiting(values)[: max(n, 0)])
    return _orphan(values) or Change(None, chosen, dict.fromkeys(chosen, NOTIFIED))


def _resume(values: Values, slot: int) -> Change:
    if orphan := _orphan(values):
        return orphan
    if values[LOCK] or values[slot] < NOTIFIED:
        raise BlockingIOError
    return Change(None, (LOCK, slot), {slot: -NOTIFIED}, {slot: NOTIFIED - values[slot], LOCK: 1})


def _withdraw(state: AtomicSet, slot: int) -> None:
    """Give the slot back, as death would, and closing did already: who sees what is left passes it on."""
    if not state.closed:
        with contextlib.suppress(Exception):  # removed, or a parent's: the error that brought us here says so
            state.update_nowait(lambda _: Change(own={slot: -state.own[slot]}))


async def _reacquire(state: AtomicSet) -> None:
    """Hold the lock again, whatever is cancelled meanwhile, as asyncio does."""
    cancelled: BaseException | None = None
    while True:
        try:
            with anyio.CancelScope(shield=True):
                await state.acquire_when(_acquire)
            break
        except anyio.get_cancelled_exc_class() as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
