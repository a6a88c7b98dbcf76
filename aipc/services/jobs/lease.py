"""A leased job, for a block of code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Lease(Generic[Job]):
    """A lease, used once: `async with queue.lease() as job:` removes the job if the block succeeds, and otherwise gives it back."""

    __slots__ = ("_done", "_give_back", "_job", "_take")

    def __init__(
        self, take: Callable[[], Awaitable[Job]], done: Callable[[Job], Awaitable[None]], give_back: Callable[[Job], None]
    ) -> None:
        self._take = take
        self._done = done
        self._give_back = give_back
        self._job: Job | None = None

    async def __aenter__(self) -> Job:
        if self._job is not None:
            raise RuntimeError("this lease was used already: call lease() again for another job")
        self._job = await self._take()
        return self._job

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._job is not None
        if kind is None:
            await self._done(self._job)
        else:
            self._give_back(self._job)
