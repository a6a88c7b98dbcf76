"""What can be asked of one job queue on a server; no state but its keys' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .links.link import Link
from .scripts import call
from .server import Place


class RemoteJob(NamedTuple):
    """A leased job. `attempts` counts its leases, this one included; `id` is the stream's, such as `1700000000000-0`."""

    id: str
    type: int
    attempts: int
    data: bytes
    priority: int = 0


class JobQueue:
    """A queue, or the dead of one: `part` stands in the names of its keys."""

    def __init__(self, link: Link, place: Place, part: str = "") -> None:
        self.link: Link = link
        self.name: str = place.url
        before = f"{part}:" if part else ""
        self.takers: str = place.key(f"{before}takers")
        self.senders: str = place.key(f"{before}senders")
        others = (place.key(f"{before}{suffix}") for suffix in ("dead", "delayed", f"seen:{link.name}", "done"))
        self.keys: tuple[str, ...] = (place.key(part), place.key(f"{before}back"), self.takers, self.senders, *others)
        self._removing = (self.keys[0], self.keys[1], self.senders, self.keys[7])
        self._limited_keys = (*self.keys[:6], place.key(f"{before}sent:{link.name}"), self.keys[7])

    def send(self, jobs: Sequence[tuple[int, bytes]], most: int, delay: float, *, waits: bool) -> bytes:
        """The command that adds jobs, each a type and data, as many as there is room for; it gives how many."""
        pairs = [part for job in jobs for part in job]
        number, answered = self.link.number(), self.link.answered
        keys = self._limited_keys if most else self.keys
        return call("send", keys, self.link.name, number, answered, most, int(waits), round(delay * 1000), *pairs)

    def take(self, most: int, taker: str) -> bytes:
        """The command that leases jobs; or gives when to ask again, and the server's time, both in ms. `taker`: who waits if there is
        none; empty: nobody.
        """
        return call("take", self.keys, self.link.name, most, taker)

    def mine(self, taker: str) -> bytes:
        """The command that gives (id, attempts) of all that is leased to this process and loop. The taker waits no longer."""
        return call("mine", self.keys, self.link.name, taker)

    def leave(self, taker: str) -> bytes:
        """The command that gives back all that is leased to this process and loop, uncounted. The taker waits no longer."""
        return call("leave", self.keys, self.link.name, taker)

    def done(self, jobs: Sequence[RemoteJob], history: int, most: int = 0) -> bytes:
        """The command that removes leased jobs, and leases up to `most` others. It gives how many of the removed ones are leased to
        others, and how many to nobody, by now; and the new ones.
        """
        return call("done", self.keys, self.link.name, history, most, *_leases(jobs))

    def remove(self, jobs: Sequence[RemoteJob], history: int) -> bytes:
        """The command that removes jobs whose leases have certainly not ended, which is quicker; it gives how many were leased."""
        return call("remove", self._removing, history, *[job.id for job in jobs])

    def give_back(self, jobs: Sequence[RemoteJob], max_attempts: int, *, counted: bool) -> bytes:
        """The command that ends leases; without `counted` as if they had never been."""
        return call("give_back", self.keys, self.link.name, int(counted), max_attempts, *_leases(jobs))

    def renew(self, jobs: Sequence[RemoteJob]) -> bytes:
        """The command that makes leases last anew."""
        return call("renew_jobs", self.keys, self.link.name, *_leases(jobs))

    def tend(self, lease: float, max_attempts: int) -> bytes:
        """The command that takes back what was not renewed for so many seconds."""
        return call("tend", self.keys, _ms(lease), max_attempts)

    def stat(self) -> bytes:
        """The command that counts."""
        return call("stat", self.keys)

    def revive(self) -> bytes:
        """The command that makes dead jobs ready."""
        return call("revive", self.keys)


def jobs_of(reply: list[Any]) -> list[RemoteJob]:
    """The jobs that the script `take` gives."""
    return [RemoteJob(id_.decode(), int(kind), attempts, data) for id_, attempts, kind, data in reply]


def job_of(news: bytes) -> tuple[int, RemoteJob]:
    """What came with a wake-up, behind the taker: when, by the server's clock (ms), and the job."""
    time, id_, attempts, kind, data = news.split(b" ", 4)
    return int(time), RemoteJob(id_.decode(), int(kind), int(attempts), data)


def _leases(jobs: Sequence[RemoteJob]) -> list[str | int]:
    return [part for job in jobs for part in (job.id, job.attempts)]


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
