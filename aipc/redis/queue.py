"""What can be asked of one job queue on a server; no state but its keys' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .links.link import Link, Undo
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
        before = f"{part}:" if part else ""
        self.takers: str = place.key(f"{before}takers")
        self.senders: str = place.key(f"{before}senders")
        others = (
            place.key(f"{before}{suffix}") for suffix in ("dead", "delayed", f"seen:{link.name}", "done", f"taken:{link.name}")
        )
        self.keys: tuple[str, ...] = (place.key(part), place.key(f"{before}back"), self.takers, self.senders, *others)

    def send(self, jobs: Sequence[tuple[int, bytes]], most: int, delay: float, *, waits: bool) -> bytes:
        """The command that adds jobs, each a type and data, as many as there is room for; it gives how many."""
        pairs = [part for job in jobs for part in job]
        number = self.link.number()
        return call("send", self.keys, self.link.name, number, most, int(waits), round(delay * 1000), *pairs)

    def take(self, most: int, lease: float, *, waits: bool) -> bytes:
        """The command that leases jobs. Asked again, because its answer was lost, it gives the same ones."""
        return call("take", self.keys, self.link.name, most, int(waits), _ms(lease), self.link.number())

    def done(self, jobs: Sequence[RemoteJob], history: int) -> bytes:
        """The command that removes leased jobs; it gives how many are leased to others, and to nobody, by now."""
        return call("done", self.keys, self.link.name, history, *_leases(jobs))

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

    def regret(self, reply: Any) -> None:
        """Jobs were leased, and nobody is there to have them."""
        jobs = jobs_of(reply)
        if jobs and not self.link.closed:
            self.link.tell(self.give_back(jobs, 0, counted=False))

    async def ask(self, command: bytes, undo: Undo | None = None) -> Any:
        """The server's answer."""
        return await self.link.ask(command, undo)


def jobs_of(reply: Any) -> list[RemoteJob]:
    """The jobs that the script `take` gives."""
    if not isinstance(reply, list):
        return []
    return [RemoteJob(id_.decode(), _type(kind), attempts, data) for id_, attempts, kind, data in reply]


def _type(text: bytes) -> int:
    return int(text) if text.isdigit() else 1  # another client may have added it


def _leases(jobs: Sequence[RemoteJob]) -> list[str | int]:
    return [part for job in jobs for part in (job.id, job.attempts)]


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
