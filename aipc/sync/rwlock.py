"""A lock that many readers or one writer hold, in any processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Unpack

from aipc._address import Key
from aipc._sys.sysv import primitives
from aipc._texts.shown import counted
from aipc.abc import Lock

from .atomic_set import AtomicSet, Change, Values
from .base import Primitive

if TYPE_CHECKING:
    from aipc._options import PrimitiveOptions

READERS, WRITERS, WAITING_READERS, WAITING_WRITERS, TURN = 1, 2, 3, 4, 5
"""The numbers of holders and of waiters, each undone for the dead; and 1 when waiting readers go before waiting writers."""
_ALL = (READERS, WRITERS, WAITING_READERS, WAITING_WRITERS, TURN)


def _readers_turn(values: Values) -> bool:
    return bool(values[TURN] and values[WAITING_READERS])


def _may_read(values: Values) -> bool:
    return not values[WRITERS] and (not values[WAITING_WRITERS] or _readers_turn(values))


def _may_write(values: Values) -> bool:
    return not values[WRITERS] and not values[READERS] and not _readers_turn(values)


def _readers_and_writers(readers: int, writers: int) -> str:
    return " and ".join(filter(None, (counted(readers, "reader"), counted(writers, "writer")))) or "nobody"


class RWLock(Primitive):
    """A readers-writer lock: `async with lock.reader:` shares it with other readers, `async with lock.writer:` holds it alone.

    No side starves: readers that come while a writer waits wait behind it, and when a writer releases the lock, the readers that
    wait by then go before the next writer. The kernel reverts the share of a process that ends, whether it held or waited. A
    process that is stopped (SIGSTOP) keeps its share and its place. Reading is not reentrant: a reader that reads again may wait
    for a writer that waits for it.
    """

    __slots__ = ("_reader", "_writer")
    _KIND: ClassVar[int] = primitives.RWLOCK

    def __init__(self, key: Key, **given: Unpack[PrimitiveOptions]) -> None:
        super().__init__(key, **given)
        self._reader = Side(self, READERS, WAITING_READERS, _may_read)
        self._writer = Side(self, WRITERS, WAITING_WRITERS, _may_write)

    def _contents(self) -> str:
        values = self._state.values()
        held, queued = (values[READERS], values[WRITERS]), (values[WAITING_READERS], values[WAITING_WRITERS])
        return f"held by {_readers_and_writers(*held)}, waited for by {_readers_and_writers(*queued)}"

    def _first(self) -> tuple[int, ...]:
        return (0,) * len(_ALL)

    @property
    def reader(self) -> Lock:
        """The readers' side: each task that acquires it holds a share."""
        return self._reader

    @property
    def writer(self) -> Lock:
        """The writers' side."""
        return self._writer


class Side(Lock):
    """The readers' or the writers' side of a lock. Its `aclose` closes the whole lock."""

    __slots__ = ("_may", "_of", "_place", "_queue")

    def __init__(self, of: RWLock, place: int, queue: int, may: Callable[[Values], bool]) -> None:
        self._of = of
        self._place = place
        self._queue = queue
        self._may = may

    @property
    def _state(self) -> AtomicSet:
        return self._of._state

    async def acquire(self) -> None:
        state = self._state
        start = state.acquire_when if self._place == WRITERS else state.update_when  # readers leave writers their turn anyway
        if await start(self._enter_or_queue):
            return
        try:
            await start(self._enter_from_queue)
        except BaseException:
            self._leave_queue(state)
            raise

    def acquire_nowait(self) -> None:
        self._state.update_nowait(self._enter)

    def _enter(self, values: Values) -> Change:
        if not self._may(values):
            raise BlockingIOError
        return Change(True, _ALL, own={self._place: 1})

    def _enter_or_queue(self, values: Values) -> Change:
        if self._may(values):
            return self._enter(values)
        stale = {TURN: -1} if values[TURN] and not values[WAITING_READERS] else {}
        return Change(False, _ALL, stale, {self._queue: 1})

    def _enter_from_queue(self, values: Values) -> Change:
        if not self._may(values):
            raise BlockingIOError
        last = self._queue == WAITING_READERS and values[WAITING_READERS] == 1
        return Change(True, _ALL, {TURN: -1} if last and values[TURN] else {}, {self._place: 1, self._queue: -1})

    def _leave_queue(self, state: AtomicSet) -> None:
        if not state.closed:  # otherwise closing did it
            with contextlib.suppress(Exception):  # removed, or a parent's: the first error says so
                state.update_nowait(lambda _: Change(own={self._queue: -1}))

    def release(self) -> None:
        state = self._state
        state.checked()
        if not state.own[self._place]:
            raise RuntimeError(f"{state.name}: released, but this object does not hold it")
        state.update_nowait(self._leave)
        if self._place == WRITERS:
            state.released()

    def _leave(self, values: Values) -> Change:
        turn = self._place == WRITERS and values[WAITING_READERS] and not values[TURN]
        return Change(None, _ALL, {TURN: 1} if turn else {}, {self._place: -1})

    def locked(self) -> bool:
        """Whether anybody holds this side."""
        return bool(self._state.values()[self._place])

    def holder(self) -> int | None:
        """Always None: the kernel does not know."""
        self._state.checked()
        return None

    async def aclose(self) -> None:
        await self._of.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'reader' if self._place == READERS else 'writer'} of {self._of!r}>"
