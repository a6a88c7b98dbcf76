"""Requests of tasks to the thread that has the database, and how tasks wait for the answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from enum import Enum, auto
from typing import Generic, TypeVar

from aipc._io.loop.wait_queue import WaitQueue

from .tables import Job, NewJob, Selection, Tables

Result = TypeVar("Result")

STEPS, PUTS = "steps", "puts"


class State(Enum):
    """The state of a request. Changed under the worker's lock."""

    PENDING = auto()
    CLAIMED = auto()  # an uncommitted transaction has it
    DONE = auto()
    WITHDRAWN = auto()


class Request(WaitQueue, Generic[Result]):
    """A request; a task parks in it. With `now` a plain call waits, and what cannot be done at once is not done."""

    __slots__ = ("error", "key", "loop", "now", "state", "value")

    def __init__(self, key: Hashable, *, now: bool = False) -> None:
        super().__init__()
        self.key: Hashable = key
        """Requests with the same key are served in order."""
        self.now: bool = now
        self.loop: object = None
        """The loop of the task that waits for the answer."""
        self.state: State = State.PENDING
        self.value: Result | None = None
        self.error: Exception | None = None

    async def answered(self, loop: object) -> None:
        """Wait in that loop, which runs here, until the request is done. Cancelled: it may be done all the same."""
        place = self._queue_in(loop, front=False)
        try:
            await place
        except BaseException:
            self._discard(place)
            raise

    def reset(self) -> None:
        """Start again: the transaction that served it failed."""
        self.value = None

    def result(self) -> Result:
        """Return the request's value, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Step(Request[Result]):
    """A request that does not wait for jobs or room."""

    __slots__ = ("looks", "run")

    def __init__(self, run: Callable[[Tables], Result], *, looks: bool = False, now: bool = False) -> None:
        super().__init__(STEPS, now=now)
        self.run: Callable[[Tables], Result] = run
        self.looks: bool = looks
        """Whether to check first for processes that have ended."""


class Done(Step[list[Job]]):
    """Remove leased jobs; returns those whose lease had ended before. `then`: lease another one, which is `next`."""

    __slots__ = ("jobs", "next", "then")

    def __init__(self, jobs: Sequence[Job], then: Selection | None = None) -> None:
        super().__init__(lambda tables: tables.done(jobs))
        self.jobs: Sequence[Job] = jobs
        self.then: Selection | None = then
        self.next: Job | None = None

    def reset(self) -> None:
        super().reset()
        self.next = None


class Put(Request[int]):
    """Add as many of `jobs` as there is room for, from the first on, and at least one; returns their number."""

    __slots__ = ("jobs",)

    def __init__(self, jobs: Sequence[NewJob], *, now: bool = False) -> None:
        super().__init__(PUTS, now=now)
        self.jobs: Sequence[NewJob] = jobs


class Take(Request[list[Job]]):
    """Lease at least one job and up to `most`. `removes`: they may be removed at once; `removed` says so."""

    __slots__ = ("most", "removed", "removes", "selection")

    def __init__(self, selection: Selection, most: int, *, removes: bool = False, now: bool = False) -> None:
        super().__init__(selection, now=now)
        self.selection: Selection = selection
        self.most: int = most
        self.removes: bool = removes
        self.removed: bool = False

    def reset(self) -> None:
        super().reset()
        self.removed = False
