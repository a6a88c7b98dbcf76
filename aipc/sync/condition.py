"""A condition variable between processes: a lock, and notifications under it, like asyncio.Condition.

Each waiting task has a semaphore of the set, its slot. The slot's value is the task's ticket, which is undone when the process
dies; `notify` adds `NOTIFIED`. So the oldest ticket is notified first. If a notified task dies, `NOTIFIED` alone stays, and the next
process that sees it passes the notification on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeVar, Unpack

import anyio

from aipc._address import Key
from aipc._sys.sysv import primitives
from aipc.exceptions import LimitExceeded

from .atomic_set import AtomicSet, Change, Values
from .base import Primitive

if TYPE_CHECKING:
    from aipc._options import ConditionOptions

Result = TypeVar("Result")

LOCK, TICKET, SLOTS = 1, 2, 3
"""1 while the lock is held, undone for the dead; the last ticket given out, from 1 to 16,383; the first slot."""
NOTIFIED = 0x4000
_TICKETS = NOTIFIED - 1
MOST_WAITERS = 160
"""A third of what semop(2) does at once: `notify_all` needs three steps a slot."""


class Condition(Primitive):
    """A lock among all tasks of all processes, under which a task can wait for a notification.

    Once open, it is used like asyncio's: `async with condition:` holds its lock. If a holder is killed, the lock is free. A
    waiting task that is killed is forgotten; if it had been notified, the next one is notified instead. `waiters` (128, at most
    160) is the number of tasks that can wait at the same time at a new condition.
    """

    __slots__ = ("_inner",)
    _KIND: ClassVar[int] = primitives.CONDITION
    _MORE: ClassVar[frozenset[str]] = frozenset({"waiters"})

    def __init__(self, key: Key, **given: Unpack[ConditionOptions]) -> None:
        self._begin(key, given)
        self._inner: Self | None = None
        if self._waiters > MOST_WAITERS:
            raise self._address.error(f"waiters={self._waiters}: at most {MOST_WAITERS}")

    @property
    def _waiters(self) -> int:
        return int(self._chosen.get("waiters", 128))

    def _contents(self) -> str:
        return "held by this object" if self._state.own[LOCK] else "held" if self.locked() else "not held"

    def _first(self) -> tuple[int, ...]:
        return (0,) * (SLOTS - 1 + self._waiters)

    async def __aenter__(self) -> Self:
        """If it is not open yet: open it, for the block. If it is open: hold its lock."""
        if self._opened is not None:
            await self.acquire()
            return self
        if self._inner is not None:
            raise RuntimeError(f"{self._address.url}: it is open already: make another Condition")
        inner = type(self).__new__(type(self))  # another object, so that leaving a block has one meaning
        inner._address, inner._chosen, inner._opened, inner._inner = self._address, self._chosen, None, None
        self._inner = inner._open()
        return self._inner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.aclose()
        elif error is None or self._state.own[LOCK]:  # a failed `wait` has released it, and its error counts
            self.release()

    async def acquire(self) -> Literal[True]:
        """Hold the lock. Cancelled: not held."""
        await self._state.acquire_when(_acquire)
        return True

    def acquire_nowait(self) -> None:
        """`acquire` without waiting, or WouldBlock."""
        self._state.update_nowait(_acquire)

    def release(self) -> None:
        """Release the lock. RuntimeError if this object does not hold it."""
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
            raise RuntimeError(f"{state.name}: {what} needs the lock, which this object does not hold")
        return state

    async def wait(self) -> Literal[True]:
        """Release the lock, wait for a notification, and acquire the lock again. RuntimeError if it is not held.

        LimitExceeded if all slots are taken. Cancelled: re-acquires the lock before it raises, and a notification that had come
        goes to the next waiter.
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
        """`wait` until `predicate()`, called with the lock held, is true; return its result. Errors and cancellation as for `wait`."""
        self._held("wait_for")
        while not (result := predicate()):
            await self.wait()
        return result

    def notify(self, n: int = 1) -> None:
        """Notify `n` of the waiting tasks, the longest waiting first. RuntimeError if the lock is not held.

        They continue one by one, each once it has the lock.
        """
        state = self._held("notify")
        state.update_nowait(lambda values: _notify(values, n))

    def notify_all(self) -> None:
        """Notify all tasks that wait now."""
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
    """The slots of waiting tasks that are not notified yet, the oldest first."""
    waiting = [slot for slot in _slots(values) if 0 < values[slot] < NOTIFIED]
    return sorted(waiting, key=lambda slot: (values[slot] - values[TICKET] - 1) % _TICKETS)


def _orphan(values: Values) -> Change | None:
    """Pass on the notification of a task that was killed."""
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
    """Give the slot back, as death would; `close` may have done so. The next process that sees `NOTIFIED` alone passes it on."""
    if not state.closed:
        with contextlib.suppress(Exception):  # removed, or a parent's: the first error says so
            state.update_nowait(lambda _: Change(own={slot: -state.own[slot]}))


async def _reacquire(state: AtomicSet) -> None:
    """Acquire the lock again, in spite of cancellations, as asyncio does."""
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
