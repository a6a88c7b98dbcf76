"""What this process and loop has leased of one queue, for all its channels of it: to the server, one consumer of the group.

A job comes as an answer; with the wake-up of a task that waits; or, where many tasks work, with the answer to the removal of another
job, for the task whose block ends, and which probably comes for the next one.

So an answer or a wake-up that is lost may have had a job. Therefore, after the loss of a connection, the server is asked what it has
leased to this process, and what nobody knows of is given back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any

from aipc._io.loop import backend
from aipc._sys.clock import elapsed

from .links.link import Link
from .queue import JobQueue, RemoteJob, job_of, jobs_of
from .server import Place

_logger = logging.getLogger("aipc")
_KEPT = 0.002
"""Seconds after which a job that nobody came for is given back, twice that at most. Meanwhile no block runs with it."""
_CERTAIN = 0.9
"""Part of a lease's time in which it has certainly not ended: the clocks of two machines do not run equally."""
Key = tuple[str, int]
"""Id and attempt: a job that another one had may be leased here again."""
_PAUSE = 32
"""Removals without a question, after one that was in vain."""


class Consumer:
    """The jobs that are leased to this process and loop. What is given back because no task wanted it counts as no attempt."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue: JobQueue = queue
        self._link = queue.link
        self._users = 0
        self._leased: dict[Key, tuple[int, float]] = {}  # how often, since when; until the server has ended the lease
        self._taker = ""
        self._clock = -inf  # what `elapsed` showed at the server's time 0, or somewhat before; nobody knows yet
        self._ready: deque[tuple[float, RemoteJob]] = deque()  # for whoever comes next, and since when
        self._timer: backend.Timer | None = None
        self._ending = 0  # blocks that end now
        self._asking = 0  # questions for a next job that are not answered
        self._pause = 0

    def join(self) -> None:
        """One channel more uses it."""
        self._users += 1

    def leave(self) -> None:
        """One channel less; the last one gives back all that it has."""
        self._users -= 1
        if self._users:
            return
        del self._link.wakes.receivers[self.queue.takers]
        self._ready.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._taker and not self._link.closed:
            self._link.tell(self.queue.leave(self._taker))

    # Taking

    async def take(self, most: int, *, waits: bool) -> list[RemoteJob] | int:
        """Jobs; or in how many ms to ask again, -1 if nobody knows. `waits`: then have the server wake a task that waits for one.

        Cancelled: what was leased is given back.
        """
        taker = self._known()
        command = self.queue.take(most, taker if waits else "")
        jobs: list[RemoteJob] | int = await self._link.ask(command, self._regret, parse=partial(self._took, elapsed()))
        return jobs

    def take_now(self) -> list[RemoteJob]:
        """A job, if there is one. Waits for the server's answer."""
        self._known()
        self.give_back_ready()
        jobs: list[RemoteJob] | int = self._link.ask_now(self.queue.take(1, ""), parse=partial(self._took, elapsed()))
        if isinstance(jobs, list):
            return jobs
        return [job for job in (self.ready(0.0),) if job is not None]  # it was on its way

    def ready(self, since: float) -> RemoteJob | None:
        """The job that has been here longest, if there is one that came after `since`: a stopped process may have lost it."""
        if self._ready:
            self._give_back_ready(since)
        return self._ready.popleft()[1] if self._ready else None

    def _known(self) -> str:
        """As whom this process waits at the server. A name of its own after each loss of a connection: what is sent to another one
        may have been given back.
        """
        if not self._taker:
            self._taker = f"{self._link.name}.{self._link.number()}"
        return self._taker

    def _took(self, asked: float, reply: list[Any]) -> list[RemoteJob] | int:
        if isinstance(reply[0], list):
            return self._took_all(reply, asked)
        due: int
        due, time = reply
        self._clock = asked - time / 1000
        return due

    def _took_all(self, reply: list[Any], asked: float) -> list[RemoteJob]:
        jobs = jobs_of(reply)
        self._note(jobs, asked)
        return jobs

    def _note(self, jobs: Sequence[RemoteJob], since: float) -> None:
        for job in jobs:
            key = _key(job)
            others = self._leased[key][0] if key in self._leased else 0
            self._leased[key] = others + 1, since

    def renewed(self, jobs: Sequence[RemoteJob], asked: float) -> None:
        """Their leases last anew; that was asked for at that time."""
        for job in jobs:
            found = self._leased.get(_key(job))
            if found is not None:
                self._leased[_key(job)] = found[0], asked

    def has(self, job: RemoteJob, seconds: float) -> bool:
        """Whether its lease, which lasts so many seconds, has certainly not ended: without asking the server, which may be another
        one since a connection was lost.
        """
        _, since = self._leased.get(_key(job), (0, 0.0))
        return since > self._link.lost_at and elapsed() < since + _CERTAIN * seconds

    def _regret(self, jobs: list[RemoteJob] | int | None) -> None:
        if isinstance(jobs, list) and not self._link.closed:
            self.give_back(jobs)

    # Ending leases

    async def done(self, job: RemoteJob, history: int) -> bool:
        """Remove it; False if its lease had ended. Cancelled: it is removed all the same."""
        self._ending += 1
        asks = not self._pause and len(self._ready) + self._asking < self._ending
        self._pause = max(self._pause - 1, 0)
        self._asking += asks
        asked = elapsed()
        try:
            command = self.queue.done([job], history, int(asks))
            parse = partial(self._ended_one, job, asks, asked)
            reply: list[Any] = await self._link.ask(command, partial(self._unanswered, asks), parse=parse, stays=True)
        except Exception:  # not for a cancellation: the answer will come
            self._asking -= asks
            raise
        finally:
            self._ending -= 1
        return self._had(reply, asked)

    def _ended_one(self, job: RemoteJob, asks: bool, asked: float, reply: list[Any]) -> list[Any]:
        self._ended([job], reply)
        self._asking -= asks
        jobs = self._took_all(reply[2], asked)
        if asks and not jobs:
            self._pause = _PAUSE
        for next_one in jobs:
            self._keep(next_one, elapsed())
        return reply

    def _unanswered(self, asks: bool, reply: object) -> None:
        """Cancelled; then the answer came, or an error instead."""
        if reply is None:
            self._asking -= asks

    def _had(self, reply: list[Any], asked: float) -> bool:
        """Whether the answer to a removal says that the leases had not ended. `asked` twice, it was done the first time."""
        others, nobody, _ = reply
        return not others and not (nobody and self._link.lost_at < asked)

    def tell_done(self, jobs: Sequence[RemoteJob], history: int, *, certain: bool) -> None:
        """Remove them: the command leaves at once, or as soon as it can. `certain`: that their leases have not ended."""
        told = partial(self._told, jobs, elapsed())
        if certain:
            self._link.tell(self.queue.remove(jobs, history), told, parse=partial(self._removed, jobs))
        else:
            self._link.tell(self.queue.done(jobs, history), told, parse=partial(self._ended, jobs))

    def _removed(self, jobs: Sequence[RemoteJob], leased: int) -> list[Any]:
        """The answer, as to `done`."""
        self.forget(jobs)
        return [0, len(jobs) - leased, []]

    def _told(self, jobs: Sequence[RemoteJob], asked: float, reply: list[Any] | None) -> None:
        if reply is None:
            self.forget(jobs)
        elif not self._had(reply, asked):
            _logger.warning("%s: a lease had ended before its job was removed: the job may be done twice", self.queue.name)

    def give_back(self, jobs: Sequence[RemoteJob], max_attempts: int = 0, *, counted: bool = False) -> None:
        """End their leases, some time; without `counted` as if they had never been."""
        if jobs:
            command = self.queue.give_back(jobs, max_attempts, counted=counted)
            self._link.tell(command, partial(self._gave_back, jobs))

    def _gave_back(self, jobs: Sequence[RemoteJob], _: object) -> None:
        self.forget(jobs)

    def forget(self, jobs: Sequence[RemoteJob]) -> None:
        """Their leases have ended."""
        for job in jobs:  # one that was given back uncounted may be leased anew, under the same key
            others, since = self._leased.pop(_key(job), (1, 0.0))
            if others > 1:
                self._leased[_key(job)] = others - 1, since

    def _ended(self, jobs: Sequence[RemoteJob], reply: Any) -> Any:
        self.forget(jobs)
        return reply

    # Jobs that wait for a task

    def received(self, news: bytes) -> None:
        """A wake-up came, with a job or without."""
        if not news:
            if not self._link.wakes.ring_one(self.queue.takers):
                self._link.wakes.pass_on(self.queue.takers)
            return
        taker, _, sent = news.partition(b" ")
        if taker == self._taker.encode():  # else it is old, and was given back
            time, job = job_of(sent)
            since = min(self._clock + time / 1000, elapsed())
            self._note([job], since)
            self._keep(job, since)

    def _keep(self, job: RemoteJob, since: float) -> None:
        self._ready.append((since, job))
        if not self._link.wakes.ring_one(self.queue.takers):
            self._arm()

    def settle(self) -> None:
        """A task does not wait any more: perhaps a job came for it, and it has another one, or was cancelled."""
        if self._ready:
            self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = backend.call_later(self._link.loop, _KEPT, self._looks)

    def _looks(self) -> None:
        self._timer = None
        if self._give_back_ready(elapsed() - _KEPT):
            self._pause = _PAUSE
        if self._ready:
            self._arm()

    def give_back_ready(self) -> None:
        """Let others have them, as if they had never been leased."""
        self._give_back_ready(elapsed())

    def _give_back_ready(self, latest: float) -> int:
        """Those that came at that time or before: how many."""
        jobs = []
        while self._ready and self._ready[0][0] <= latest:
            jobs.append(self._ready.popleft()[1])
        if not self._link.closed:
            self.give_back(jobs)
        return len(jobs)

    # Loss

    def renew(self) -> None:
        """A connection was lost: find what the server has leased to this process and nobody knows, behind all questions so far."""
        if self._taker:
            before, self._taker, self._clock = self._taker, "", -inf
            self._link.tell(self.queue.mine(before), self._give_back_lost)
            self._known()
            self._link.wakes.ring(self.queue.takers)

    def _give_back_lost(self, reply: list[Any] | None) -> None:
        leased = [RemoteJob(id_.decode(), 1, attempts, b"") for id_, attempts in reply or ()]
        lost = [job for job in leased if _key(job) not in self._leased]
        if not self._link.closed:
            self._note(lost, 0.0)
            self.give_back(lost)


def _key(job: RemoteJob) -> Key:
    return job.id, job.attempts


def consumer_of(link: Link, place: Place, part: str = "") -> Consumer:
    """What this process and loop has of that queue, or of a part of it; for one user more."""
    queue = JobQueue(link, place, part)
    found = link.wakes.receivers.get(queue.takers)
    if not isinstance(found, Consumer):
        found = link.wakes.receivers[queue.takers] = Consumer(queue)
    found.join()
    return found
