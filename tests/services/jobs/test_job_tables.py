"""Statements on many jobs at once: what each of them did is known for each job."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aipc._address import parse
from aipc.services.jobs.database import Database
from aipc.services.jobs.files import open_files
from aipc.services.jobs.requests import Done, Step
from aipc.services.jobs.serving import serve
from aipc.services.jobs.tables import JobsStatus, NewJob, Selection, Tables

OWNER = 7


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    with closing(open_files(parse(f"jobs:{place}/queue"), create=True, exclusive=False, mode=0o600)) as files:
        database = Database(files)
        yield database
        database.close(remove=True)


@pytest.mark.parametrize("count", [1, 2, 3, 64, 100])
def test_as_many_as_asked_for_are_leased(count: int, database: Database) -> None:
    def work(tables: Tables) -> None:
        tables.put([NewJob(1, 0, 0.0, b"%d" % number) for number in range(count + 1)])
        jobs = tables.take(Selection(), count, OWNER)
        assert [job.data for job in jobs] == [b"%d" % number for number in range(count)]
        assert {(job.attempts, job.owner) for job in jobs} == {(1, OWNER)}
        assert tables.status() == JobsStatus(ready=1, leased=count, delayed=0, dead=0)
        assert tables.done(jobs) == []
        assert tables.status() == JobsStatus(ready=1, leased=0, delayed=0, dead=0)

    database.transact(work)


def test_all_jobs_of_one_transaction_are_removed(database: Database) -> None:
    """As many as 256 tasks may have received at once, under SQLite's own limit, which some systems raise."""
    database._db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)

    def work(tables: Tables) -> None:
        tables.put([NewJob(1, 0, 0.0, b"")] * 25_600)
        jobs = tables.take(Selection(), 25_600, OWNER)
        assert tables.done(jobs) == []
        assert tables.status() == JobsStatus(ready=0, leased=0, delayed=0, dead=0)

    database.transact(work)


def test_each_learns_whether_its_lease_had_ended(database: Database) -> None:
    """Two of four are given back, and one of these is leased again: neither is removed."""

    def work(tables: Tables) -> None:
        tables.put([NewJob(1, 0, 0.0, b"%d" % number) for number in range(5)])
        jobs = tables.take(Selection(), 4, OWNER)
        tables.give_back(jobs[:2], counted=True)
        (again,) = tables.take(Selection(), 1, OWNER)
        assert again.data == b"0"
        assert again.attempts == 2
        steps: list[Step[object]] = [Done([job]) for job in jobs]  # type: ignore[list-item]
        serve(tables, steps, lambda: OWNER, removes=False)
        assert [step.value for step in steps] == [[jobs[0]], [jobs[1]], [], []]
        assert tables.status() == JobsStatus(ready=2, leased=1, delayed=0, dead=0)

    database.transact(work)


def test_requests_are_served_in_order(database: Database) -> None:
    def work(tables: Tables) -> None:
        tables.put([NewJob(1, 0, 0.0, b"job")] * 3)
        first, second, third = tables.take(Selection(), 3, OWNER)
        gives_back: Step[object] = Step(lambda tables: tables.give_back([second], counted=True))
        requests = [Done([first]), gives_back, Done([second]), Done([third])]
        serve(tables, requests, lambda: OWNER, removes=False)
        assert [step.value for step in requests if isinstance(step, Done)] == [[], [second], []]
        assert tables.status() == JobsStatus(ready=1, leased=0, delayed=0, dead=0)

    database.transact(work)
