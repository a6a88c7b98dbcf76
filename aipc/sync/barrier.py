"""A barrier for tasks of any processes, like asyncio.Barrier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self, Unpack

from aipc._address import Key
from aipc._sys.sysv import primitives
from aipc._sys.sysv.semaphore import LARGEST_VALUE
from aipc.exceptions import BrokenBarrierError

from .atomic_set import AtomicSet, Change, Values
from .base import Primitive

if TYPE_CHECKING:
    from aipc._options import PrimitiveOptions

PARTIES, INSIDE, STATE = 1, 2, 3
"""The number of parties; the number of tasks inside (reverted for dead processes); and one of these states:"""
FILLING, LEAVING, RESETTING, BROKEN = 0, 1, 2, 3


class Barrier(Primitive):
    """Lets tasks continue when `parties` of them wait, in any processes; then it starts again with the next `parties`.

    A task that is cancelled or killed before that is no longer counted: the others wait for another one. To make them give up,
    call `abort`. Without `parties`, only an existing barrier is opened; with it, an existing barrier must have as many.
    """

    __slots__ = ()
    _KIND: ClassVar[int] = primitives.BARRIER
    _MORE: ClassVar[frozenset[str]] = frozenset({"parties"})

    def __init__(self, key: Key, parties: int | None = None, **given: Unpack[PrimitiveOptions]) -> None:
        self._begin(key, given if parties is None else {**given, "parties": parties})
        made = self._chosen.setdefault("create", bool(self._asked)) or self._chosen.get("exclusive")
        if not self._asked and (made or self._address.path == "private"):
            raise self._address.error("a new barrier needs parties=N")
        if self._asked > LARGEST_VALUE:
            raise self._address.error(f"parties={self._asked:,}: at most {LARGEST_VALUE:,}")

    @property
    def _asked(self) -> int:
        return int(self._chosen.get("parties", 0))

    def _first(self) -> tuple[int, int, int]:
        return self._asked, 0, 0

    def _open(self) -> Self:
        super()._open()
        if self._asked not in (0, self.parties):
            parties = self.parties
            self._state.unlink = False
            self._state.close()
            raise self._address.error(f"parties={self._asked}: this barrier exists already, with {parties}")
        return self

    def _contents(self) -> str:
        return "broken" if self.broken else f"{self.n_waiting} of {self.parties} parties wait"

    @property
    def parties(self) -> int:
        """The number of tasks that must wait."""
        return self._state.values()[PARTIES]

    @property
    def n_waiting(self) -> int:
        """The number of tasks that wait now."""
        values = self._state.values()
        return values[INSIDE] if values[STATE] == FILLING else 0

    @property
    def broken(self) -> bool:
        """Whether it was aborted, and not reset since."""
        return self._state.values()[STATE] == BROKEN

    async def wait(self) -> int:
        """Wait until `parties` tasks wait. Each gets a different number from 0 to parties - 1; the last one to leave gets 0.

        BrokenBarrierError if it is broken, or is aborted or reset meanwhile. Cancelled: this task is not counted.
        """
        state = self._state
        self._unbroken(await state.update_when(_arrive))
        try:
            position = await state.update_when(_pass)
        except BaseException:
            _withdraw(state)
            raise
        return self._unbroken(position)

    def _unbroken(self, position: int) -> int:
        if position < 0:
            raise BrokenBarrierError(f"{self._address.url}: the barrier is broken, or was reset")
        return position

    def abort(self) -> None:
        """Break it: all tasks that wait, or arrive before a reset, get BrokenBarrierError."""
        self._state.update_nowait(_to(BROKEN))

    def reset(self) -> None:
        """Reset it: waiting tasks get BrokenBarrierError, and later ones start a new round."""
        self._state.update_nowait(_to(RESETTING))


def _arrive(values: Values) -> Change:
    state, inside = values[STATE], values[INSIDE]
    if state == BROKEN:
        return Change(-1)
    if state != FILLING:
        if inside:
            raise BlockingIOError  # the last round is still leaving
        return Change(tests=(INSIDE, STATE), shared={STATE: -state}, again=True)  # its last task was killed
    last = inside + 1 == values[PARTIES]
    return Change(0, (INSIDE, STATE), {STATE: LEAVING} if last else {}, {INSIDE: 1})


def _pass(values: Values) -> Change:
    if values[STATE] == FILLING:
        raise BlockingIOError
    return _leave(values)


def _leave(values: Values) -> Change:
    state, inside = values[STATE], values[INSIDE]
    over = inside == 1 and state in (LEAVING, RESETTING)
    position = inside - 1 if state == LEAVING else -1
    return Change(position, (INSIDE, STATE), {STATE: -state} if over else {}, {INSIDE: -1})


def _withdraw(state: AtomicSet) -> None:
    """Leave, unless closing the object or removing the set has done so."""
    if not state.closed:
        with contextlib.suppress(Exception):  # removed, or a parent's: the first error says so
            state.update_nowait(_leave)


def _to(state: int) -> Callable[[Values], Change]:
    def change(values: Values) -> Change:
        target = FILLING if state == RESETTING and not values[INSIDE] else state
        return Change(tests=(INSIDE, STATE), shared={STATE: target - values[STATE]})

    return change
