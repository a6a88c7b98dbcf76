"""Sets of System V semaphores (semop(2), semctl(2)): several operations at once, all or none.

A set is a row of counters. No task holds a counter: one task may lower it and another raise it, and closing gives nothing back.
With `undo` the kernel reverts what a process did when it ends.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Unpack

import anyio

from aipc._address import Key, keyed, options, parse
from aipc._io.errors import translate
from aipc._sys.sysv import semaphore as sysv
from aipc._sys.sysv.key import check_key, object_name
from aipc._sys.sysv.permissions import checked_change
from aipc._texts.shown import Fact, parked, shown, state
from aipc.abc import Closing
from aipc.exceptions import AddressError, LimitExceeded

from .base import LockHandle
from .sysv_opening import kernel_limit, open_set

if TYPE_CHECKING:
    from aipc._options import SysVSemaphoreSetOptions

Result = TypeVar("Result")
Steps = list[tuple[int, int]]

_OPTIONS = frozenset({"create", "exclusive", "mode", "unlink", "value", "count", "undo", "project", "adopt"})


class Waiters(NamedTuple):
    """Numbers of processes that sleep in semop(2) on a semaphore. aipc's own waiters are not counted: they poll."""

    #: until it is larger (GETNCNT)
    increase: int
    #: until it is zero (GETZCNT)
    zero: int


class _SetHandle(LockHandle):
    """Owns a set, and knows what this object's tasks wait for."""

    __slots__ = ("count", "semaphores", "unlink", "wanted")

    def __init__(self, semaphores: sysv.SemaphoreSet, count: int, name: str, unlink: bool) -> None:
        called = object_name("sem", semaphores.id)
        super().__init__(name, self._may_succeed, called, f"{called} zero")
        self.polling.selective = True
        self.semaphores: sysv.SemaphoreSet = semaphores
        self.count: int = count
        self.unlink: bool = unlink
        self.wanted: list[Steps] = []

    def _may_succeed(self) -> bool:
        try:
            values = self.semaphores.values(self.count)
        except OSError:
            return True  # trying will tell
        return any(_possible(values, steps) for steps in self.wanted)

    def explain(self, error: OSError) -> Exception:
        return super().explain(kernel_limit(error, self.name))

    def _let_go(self) -> None:
        if self.unlink:
            try:
                self.semaphores.remove()
            except OSError as error:
                if error.errno != errno.EIDRM:  # already removed
                    raise translate(error, self.name) from None


def _possible(values: Sequence[int], steps: Steps) -> bool:
    """Whether semop(2) would now do all steps, one after the other."""
    now = list(values)
    for index, delta in steps:
        if now[index] + delta < 0 or (delta == 0 and now[index]):
            return False
        now[index] += delta
    return True


class SysVSemaphoreSet(Closing):
    """A System V semaphore set: `async with aipc.SysVSemaphoreSet("sysv-sem:0x4d2", create=True, count=3) as row`, or await it.

    `key` is a URL or the part behind its colon: a number, `"private"` (or None), a path together with `project`. Options, here or
    in the query: `create`, `adopt`, `exclusive`, `mode`, `unlink` as for `open_lock`; a new set has `count` semaphores of `value`
    (1 each by default), or those of `values`; `undo` is the default of `operate` (false).

    Errors: AddressError at once for an invalid key or option; when opening, ObjectMissing, ObjectExists, AccessDenied, and with
    `create` WrongObject for a set that nobody has operated on since it was made. Every call: ClosedResourceError after `aclose`,
    ObjectRemoved when the set was removed, ForkedError in a forked child, RuntimeError before it is opened. Cancelled while
    opening: nothing was opened.
    """

    __slots__ = ("_address", "_chosen", "_handle", "_undo", "_values")

    def __init__(self, key: Key, *, values: Iterable[int] | None = None, **given: Unpack[SysVSemaphoreSetOptions]) -> None:
        self._address = parse(keyed("sysv-sem", key))
        self._chosen = options(self._address, _OPTIONS, given)
        check_key(self._address, self._chosen.get("project"))
        self._undo: bool = self._chosen.pop("undo", False)
        self._values = self._initial(values)
        self._handle: _SetHandle | None = None

    def _initial(self, given: Iterable[int] | None) -> list[int]:
        count, value = self._chosen.pop("count", None), self._chosen.pop("value", None)
        if given is None:
            values = [1 if value is None else value] * (count or 1)
        else:
            values = list(given)
            if value is not None or count not in (None, len(values)) or not values:
                raise self._address.error(f"values={values}: one for each semaphore, and then neither value nor another count")
        for value in values:
            if not 0 <= value <= sysv.LARGEST_VALUE:
                raise self._address.error(f"value={value}: must be from 0 to {sysv.LARGEST_VALUE:,}")
        return values

    async def _open(
        self,
        *,
        create: bool = False,
        exclusive: bool = False,
        mode: int = 0o600,
        unlink: bool | None = None,
        project: int | None = None,
        adopt: bool = False,
    ) -> Self:
        if self._handle is not None:
            return self
        address = self._address
        semaphores = await open_set(
            address, project, create=create, exclusive=exclusive, mode=mode, values=self._values, adopt=adopt
        )
        try:
            count = semaphores.count()
            semaphores.values(count)
        except OSError as error:
            raise translate(error, address.url) from None
        private = address.path == "private"
        self._handle = _SetHandle(semaphores, count, address.url, private if unlink is None else unlink)
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open(**self._chosen).__await__()

    async def __aenter__(self) -> Self:
        return await self

    def _opened(self) -> _SetHandle:
        if self._handle is None:
            raise RuntimeError(f"{self._address.url}: not open yet: await it, or use it with `async with`")
        return self._handle

    def _index(self, index: int) -> int:
        count = self._opened().count
        if not 0 <= index < count:
            raise AddressError(f"{self._address.url}: index={index}: the set has {count} semaphores, 0 to {count - 1}")
        return index

    def _prepared(self, operations: Iterable[tuple[int, int]], undo: bool | None) -> tuple[Steps, sysv.Operations]:
        steps = [(self._index(index), delta) for index, delta in operations]
        if not steps:
            raise ValueError(f"{self._address.url}: no steps; one is (index, delta)")
        for _, delta in steps:
            if abs(delta) > sysv.LARGEST_VALUE:
                raise LimitExceeded(f"{self._address.url}: a step of {delta:,}; a value is at most {sysv.LARGEST_VALUE:,}")
        undone = self._undo if undo is None else undo
        return steps, sysv.operations(steps, sysv.NOWAIT | (sysv.UNDO if undone else 0))

    def _try(self, operations: sysv.Operations) -> None:
        handle = self._opened()
        handle.check()
        handle.semaphores.operate(operations)
        handle.polling.notify()

    async def operate(self, operations: Iterable[tuple[int, int]], *, undo: bool | None = None) -> None:
        """Do all steps `(index, delta)` at once, in order, as soon as all of them can be done.

        A positive delta is added. A negative one is subtracted once the value is large enough. 0 waits until the value is zero.
        With `undo` the kernel reverts the steps when this process ends (SEM_UNDO).

        AddressError for an index outside the set. LimitExceeded for a value over 32,767, or for more steps than the kernel does
        at once. After an error nothing has changed. Cancelled: none of the steps was done.
        """
        steps, prepared = self._prepared(operations, undo)
        handle = self._opened()
        handle.wanted.append(steps)
        try:
            await handle.polling.attempt(self._try, prepared)
        finally:
            handle.wanted.remove(steps)

    def operate_nowait(self, operations: Iterable[tuple[int, int]], *, undo: bool | None = None) -> None:
        """`operate` without waiting. WouldBlock: none of the steps was done."""
        _, prepared = self._prepared(operations, undo)
        handle = self._opened()
        try:
            handle.polling.attempt_nowait(self._try, prepared)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{handle.name}: the values do not allow it now; await operate() waits for it") from None

    @property
    def values(self) -> list[int]:
        """Return all values, read at one moment (GETALL)."""
        handle = self._opened()
        return handle.call(handle.semaphores.values, handle.count)

    def set_values(self, values: Iterable[int]) -> None:
        """Set all values at once (SETALL). The kernel forgets what it would have undone, in every process.

        ValueError unless there is one value for each semaphore, LimitExceeded for a value outside 0 to 32,767: nothing changed.
        """
        handle = self._opened()
        given = [self._within(value) for value in values]
        if len(given) != handle.count:
            raise ValueError(f"{self._address.url}: {len(given)} values for {handle.count} semaphores")
        handle.call(handle.semaphores.set_values, given)
        handle.polling.notify()

    def set_value(self, index: int, value: int) -> None:
        """Set one value (SETVAL); otherwise as `set_values`."""
        handle = self._opened()
        handle.call(handle.semaphores.set_value, self._index(index), self._within(value))
        handle.polling.notify()

    def _within(self, value: int) -> int:
        if not 0 <= value <= sysv.LARGEST_VALUE:
            raise LimitExceeded(f"{self._address.url}: a value of {value:,}: must be from 0 to {sysv.LARGEST_VALUE:,}")
        return value

    def stat(self) -> sysv.SysVSemaphoreSetStatus:
        """How many semaphores, who owns the set, when it was last operated on and changed (IPC_STAT)."""
        handle = self._opened()
        return handle.call(handle.semaphores.stat)

    def change(self, *, mode: int | None = None, uid: int | None = None, gid: int | None = None) -> None:
        """Change what is given, all at once (IPC_SET). AccessDenied, unless the set is ours."""
        checked_change(self._address.url, mode=mode, uid=uid, gid=gid)
        handle = self._opened()
        handle.call(partial(handle.semaphores.change, mode=mode, uid=uid, gid=gid))

    @property
    def pids(self) -> list[int]:
        """For each semaphore, the process that last changed it (GETPID, semctl(2)); 0 if none has."""
        handle = self._opened()
        return [handle.call(handle.semaphores.last_pid, index) for index in range(handle.count)]

    def waiting(self, index: int) -> Waiters:
        """The numbers of processes that sleep in semop(2) on that semaphore (GETNCNT, GETZCNT)."""
        handle = self._opened()
        return Waiters(*handle.call(handle.semaphores.waiting, self._index(index)))

    @property
    def identifier(self) -> int:
        """The kernel's number of the set, as in `ipcs -s`."""
        return self._opened().semaphores.id

    def __len__(self) -> int:
        return self._opened().count

    def remove(self) -> None:
        """Remove the set now: every waiter gets ObjectRemoved."""
        handle = self._opened()
        handle.call(handle.semaphores.remove)
        handle.polling.notify()

    async def aclose(self) -> None:
        """Close; with `unlink` remove the set. The values stay. Idempotent, also under cancellation."""
        if self._handle is not None:
            self._handle.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._address.url
        if self._handle is None:
            yield "not open yet"
            return
        yield state(self._handle)
        yield lambda: f"values {self.values}"
        yield parked(self._handle.polling)
