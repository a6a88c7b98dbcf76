"""The tables of a queue, and every statement on them. Each method runs in the transaction of its caller.

A job's state is one of READY, LEASED, DEAD, DELAYED. Ids are never used twice (AUTOINCREMENT). Ending a lease needs id, owner and
attempt: a late end of an earlier lease changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import time
from typing import NamedTuple

READY, LEASED, DEAD, DELAYED = range(4)
_STATES = ("ready", "leased", "dead", "delayed")
APPLICATION, VERSION = 0x61697063, 1  # "aipc", and the version of these tables
_SCHEMA = f"""
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL, priority INTEGER NOT NULL, type INTEGER NOT NULL,
    due REAL NOT NULL, attempts INTEGER NOT NULL, owner INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX jobs_ready ON jobs (priority DESC, id) WHERE state = {READY};
CREATE INDEX jobs_delayed ON jobs (due) WHERE state = {DELAYED};
CREATE INDEX jobs_leased ON jobs (owner) WHERE state = {LEASED};
CREATE INDEX jobs_dead ON jobs (id) WHERE state = {DEAD};
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL, start INTEGER NOT NULL, namespace INTEGER NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE limits (live INTEGER NOT NULL, max_messages INTEGER NOT NULL, max_attempts INTEGER NOT NULL);
INSERT INTO limits VALUES (0, 0, 0);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
_NEXT_DUE = f"(SELECT min(due) FROM jobs WHERE state = {DELAYED})"
_BEGINNING = f"SELECT live, max_messages, max_attempts, {_NEXT_DUE} FROM limits"
_INSERT = "INSERT INTO jobs (state, priority, type, due, attempts, owner, data) VALUES "
_ROW = "(?, ?, ?, ?, 0, 0, ?)"
_ROWS = 50
"""Rows of one INSERT: at each statement's end another thread may run."""
_MOST_VALUES = 32_000
"""Of ids in one statement; SQLite takes 32,766 values by default."""
_BY_TYPE = f"CREATE INDEX IF NOT EXISTS jobs_ready_by_type ON jobs (type, priority DESC, id) WHERE state = {READY}"
"""Made when jobs are first selected by type: most queues never need it, and it slows each change."""
_SELECT = "SELECT id, type, priority, attempts + 1, data FROM jobs WHERE state = {state} {chosen} ORDER BY {order} LIMIT ?"
_LEASE = f"UPDATE jobs SET state = {LEASED}, owner = ?, attempts = attempts + 1 WHERE id IN "
_LEASED_ROWS = f"SELECT id, owner, attempts FROM jobs WHERE state = {LEASED} AND id IN "
_MINE = f"WHERE id = ? AND owner = ? AND attempts = ? AND state = {LEASED}"


class Job(NamedTuple):
    """A leased job. `attempts` counts its leases, this one included; `owner` is the number of the process that has it."""

    id: int
    type: int
    priority: int
    attempts: int
    data: bytes
    owner: int


class StoredJob(NamedTuple):
    """A job as it is in the queue. `state` is "ready", "leased", "dead" or "delayed"; `attempts` counts its leases."""

    id: int
    state: str
    type: int
    priority: int
    attempts: int
    data: bytes


class NewJob(NamedTuple):
    """A job to be sent. `due` is a time as of time(2), or 0."""

    type: int
    priority: int
    due: float
    data: bytes


class Selection(NamedTuple):
    """A choice of jobs: by type as for System V (0 any, n that type, -n the lowest up to n), waiting or dead."""

    type: int = 0
    dead: bool = False


@dataclass(frozen=True, slots=True)
class JobsStatus:
    """The numbers of a queue's jobs: ready to be leased, leased, delayed, and dead after too many attempts."""

    ready: int
    leased: int
    delayed: int
    dead: int


class Tables:
    """One transaction's view. `readied` and `room` count what it added. `all_look`: all other waiters must check.

    `due` is the end of the next delay, a time as of time(2); None: there is none.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        beginning: tuple[int, int, int, float | None] = db.execute(_BEGINNING).fetchone()
        live, max_messages, max_attempts, due = beginning
        self._live = live
        self.max_messages: int = max_messages
        self.max_attempts: int = max_attempts
        self.due: float | None = due
        self._live_before = self._live
        self.readied: int = 0
        self.room: int = 0
        self.all_look: bool = False
        self.kibibytes: int = 6
        """Roughly the bytes that this adds to the log: each transaction changes some pages."""
        if self.due is not None:
            self._end_delays(time())

    def _end_delays(self, now: float) -> None:
        if self.due is not None and self.due <= now:
            self.readied += self._db.execute(
                f"UPDATE jobs SET state = {READY} WHERE state = {DELAYED} AND due <= ?", (now,)
            ).rowcount
            self.due = self._db.execute(f"SELECT {_NEXT_DUE}").fetchone()[0]

    def finish(self) -> None:
        """Write the counts of the transaction."""
        if self.max_messages and self._live != self._live_before:
            self._db.execute("UPDATE limits SET live = ?", (self._live,))

    @property
    def adds(self) -> bool:
        """Whether other processes may have reason to check."""
        return bool(self.readied or self.room or self.all_look)

    @property
    def space(self) -> int | None:
        """The number of jobs for which there is room; None: no limit."""
        return max(self.max_messages - self._live, 0) if self.max_messages else None

    def limit(self, max_messages: int | None, max_attempts: int | None) -> None:
        """Change the given limits."""
        if max_messages is not None and max_messages != self.max_messages:
            live = self._db.execute(f"SELECT count(*) FROM jobs WHERE state <> {DEAD}").fetchone()[0]
            self._db.execute(
                "UPDATE limits SET max_messages = ?, live = ?", (max_messages, live)
            )  # live counts only under a limit
            self.room += max_messages
        if max_attempts is not None and max_attempts != self.max_attempts:
            self._db.execute("UPDATE limits SET max_attempts = ?", (max_attempts,))

    def put(self, jobs: Sequence[NewJob]) -> int:
        """Add as many of the jobs as there is room for, from the first on; return their number."""
        space = self.space
        added = jobs if space is None else jobs[:space]
        for first in range(0, len(added), _ROWS):
            rows = added[first : first + _ROWS]
            values: list[object] = []
            for job in rows:
                self.kibibytes += 1 + len(job.data) // 512
                values += (DELAYED if job.due else READY, job.priority, job.type, job.due, job.data)
            self._db.execute(_INSERT + ",".join([_ROW] * len(rows)), values)
        dues = [job.due for job in added if job.due]
        if dues:
            self.all_look = True
            self.due = min(dues if self.due is None else (self.due, *dues))
        self.readied += len(added) - len(dues)
        self._live += len(added)
        return len(added)

    def take(self, selection: Selection, most: int, owner: int) -> list[Job]:
        """Lease up to `most` jobs to that owner: the highest priority first, and the oldest of these first."""
        wanted, chosen, order = selection.type, "", "priority DESC, id"
        if wanted > 0:
            chosen = "AND type = ?"
        elif wanted < 0:
            wanted, chosen, order = -wanted, "AND type <= ?", "type, priority DESC, id"
        if chosen and not selection.dead:
            self._db.execute(_BY_TYPE)
        if selection.dead:
            state, order = DEAD, "id"
        else:
            state = READY
        values = (wanted, most) if chosen else (most,)
        found = self._db.execute(_SELECT.format(state=state, chosen=chosen, order=order), values).fetchall()
        if found:
            slots, ids = _in([row[0] for row in found])
            self._db.execute(_LEASE + slots, (owner, *ids))
        if selection.dead:
            self._live += len(found)
        return [Job._make((*row, owner)) for row in found]

    def done(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove leased jobs. Return those whose lease had ended before: they stay."""
        if len(jobs) == 1:
            removed = self._db.execute(f"DELETE FROM jobs {_MINE}", (jobs[0].id, jobs[0].owner, jobs[0].attempts)).rowcount
            lost = [] if removed else [*jobs]
        else:
            slots, ids = _in([job.id for job in jobs])
            leased = {*self._db.execute(_LEASED_ROWS + slots, ids)}
            lost = [job for job in jobs if (job.id, job.owner, job.attempts) not in leased]
            slots, ids = _in([job.id for job in jobs if job not in lost] if lost else [job.id for job in jobs])
            self._db.execute("DELETE FROM jobs WHERE id IN " + slots, ids)
        self._live -= len(jobs) - len(lost)
        self.room += len(jobs) - len(lost)
        return lost

    def give_back(self, jobs: Iterable[Job], *, counted: bool) -> None:
        """End leases without removing the jobs. Not `counted`: as if the lease had not begun."""
        for job in jobs:
            dies = counted and 0 < self.max_attempts <= job.attempts
            changed = self._db.execute(
                f"UPDATE jobs SET state = ?, owner = 0, attempts = ? {_MINE}",
                (DEAD if dies else READY, job.attempts - (not counted), job.id, job.owner, job.attempts),
            ).rowcount
            self._count_returned(changed * (not dies), changed * dies)

    def _count_returned(self, ready: int, dead: int) -> None:
        self.readied += ready
        self.room += dead
        self._live -= dead

    def add_owner(self, pid: int, start: int, namespace: int, boot: str) -> int:
        """Assign a number to a process that leases."""
        values = (pid, start, namespace, boot)
        self.all_look = True
        row = self._db.execute("INSERT INTO owners (pid, start, namespace, boot) VALUES (?, ?, ?, ?)", values).lastrowid
        assert row is not None
        return row

    def owners(self) -> list[tuple[int, int, int, int, str]]:
        """Each process that may have leases: its number, pid, start, PID namespace and boot."""
        return list(self._db.execute("SELECT id, pid, start, namespace, boot FROM owners"))

    def remove_owner(self, owner: int) -> None:
        """Remove a process that has ended: give back its leases."""
        mine = f"WHERE owner = ? AND state = {LEASED}"
        limit = self.max_attempts or (1 << 62)
        dead = self._db.execute(f"UPDATE jobs SET state = {DEAD}, owner = 0 {mine} AND attempts >= ?", (owner, limit)).rowcount
        ready = self._db.execute(f"UPDATE jobs SET state = {READY}, owner = 0 {mine}", (owner,)).rowcount
        self._db.execute("DELETE FROM owners WHERE id = ?", (owner,))
        self._count_returned(ready, dead)

    def revive(self) -> int:
        """Make all dead jobs ready again, as if never leased; return their number."""
        count = self._db.execute(f"UPDATE jobs SET state = {READY}, attempts = 0 WHERE state = {DEAD}").rowcount
        self.readied += count
        self._live += count
        return count

    def stored(self, most: int) -> list[StoredJob]:
        """The oldest jobs."""
        found = self._db.execute("SELECT id, state, type, priority, attempts, data FROM jobs ORDER BY id LIMIT ?", (most,))
        return [StoredJob(row[0], _STATES[row[1]], *row[2:]) for row in found]

    def status(self) -> JobsStatus:
        """Count the jobs of each kind."""
        return JobsStatus(*(self._count(state) for state in (READY, LEASED, DELAYED, DEAD)))

    def _count(self, state: int) -> int:
        count: int = self._db.execute(f"SELECT count(*) FROM jobs WHERE state = {state}").fetchone()[0]
        return count


def _in(ids: list[int]) -> tuple[str, list[int]]:
    """The right side of `id IN`, and its values: filled up to a power of two, so that SQLite compiles few statements.

    One statement for many rows: at each statement's end another thread may run.
    """
    slots = min(1 << max(len(ids) - 1, 0).bit_length(), max(_MOST_VALUES, len(ids)))
    return f"({','.join('?' * slots)})", ids + [0] * (slots - len(ids))


def prepare(db: sqlite3.Connection) -> bool:
    """Make the tables in an empty file. False if it is another program's database, or another version's."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (APPLICATION, VERSION):
        return True
    if application or version or db.execute("SELECT 1 FROM sqlite_master").fetchone():
        return False
    db.execute("PRAGMA page_size = 1024")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table, or not at all
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    return True
