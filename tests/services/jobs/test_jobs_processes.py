"""Job queues between processes, which are killed, stopped, and never reaped."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import cast

import anyio
import pytest

import aipc
from aipc import JobChannel, JobsStatus
from aipc._sys import probes
from aipc.services.jobs import worker
from aipc.testing.expect import until

from ...subjects.counts import times

pytestmark = pytest.mark.anyio

JOBS, KILLS = times(800, 100_000), times(3, 200)
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def url(place: Path) -> str:
    return f"jobs:{place}/app.jobs?create=1"


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the thread is told wakes it."""
    monkeypatch.setattr(worker, "_LOOK", 60.0)


async def opened(url: str) -> JobChannel:
    return cast(JobChannel, await aipc.open_channel(url))


@contextmanager
def started(role: str, url: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.services.jobs.consumers", role, url]
    with subprocess.Popen(command, stdout=stdout, cwd=_ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


async def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return await anyio.to_thread.run_sync(process.stdout.readline)


@pytest.mark.costly
@pytest.mark.usefixtures("no_looks")
async def test_a_killed_consumers_job_is_anothers_at_once(url: str) -> None:
    """It is not reaped, either: a zombie counts as dead."""
    async with await opened(url) as queue:
        delays = []
        for _ in range(KILLS):
            await queue.send(b"job")
            with started("hold", url) as process:
                assert await line(process) == b"job\n"
                assert queue.stat() == JobsStatus(0, 1, 0, 0)
                async with patience(), anyio.create_task_group() as tasks:
                    begun = anyio.Event()
                    taken = []

                    async def take(taken: list[float] = taken, begun: anyio.Event = begun) -> None:
                        begun.set()
                        async with queue.lease() as job:
                            taken.append(perf_counter())
                            assert (job.data, job.attempts) == (b"job", 2)

                    tasks.start_soon(take)
                    await begun.wait()
                    await anyio.sleep(0.02)  # until the thread waits, too; either way the job must come
                    killed = perf_counter()
                    process.kill()
                delays.append(taken[0] - killed)
        assert sorted(delays)[len(delays) // 2] < 0.5


async def test_statistics_know_who_is_dead(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"job")
        with started("hold", url) as process:
            await line(process)
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert queue.stat() == JobsStatus(1, 0, 0, 0)


@pytest.mark.costly
@pytest.mark.skipif(not probes.enabled("doorbell"), reason="tests the doorbell")
@pytest.mark.usefixtures("no_looks")
async def test_another_process_wakes_this_one(url: str) -> None:
    async with await opened(url) as queue:
        with started("produce", url):
            async with patience():
                for number in range(20):
                    assert await queue.receive() == b"%d" % number
        while queue.stat().ready:
            await queue.receive_many()
        with anyio.move_on_after(0.05):
            await queue.receive()
        with started("produce", url):
            async with patience():
                assert await queue.receive() == b"0"


async def test_a_stopped_consumer_keeps_its_job(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"job")
        with started("hold", url) as process:
            await line(process)
            process.send_signal(signal.SIGSTOP)
            await queue.send(b"next")
            assert await queue.receive() == b"next"
            assert queue.stat().leased == 1


async def test_an_owner_of_an_earlier_boot_is_dead(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"job")
        with started("hold", url) as process:
            await line(process)
            other = sqlite3.connect(url.removeprefix("jobs:").partition("?")[0])
            with other:
                other.execute("UPDATE owners SET boot = 'earlier'")
            other.close()
            assert queue.stat() == JobsStatus(1, 0, 0, 0)


async def test_a_waiting_process_is_woken_at_once(url: str) -> None:
    async with await opened(url) as queue:
        with started("consume", url) as process:
            for number in range(20):
                await queue.send(b"%d" % number)
                with anyio.fail_after(10):
                    assert await line(process) == b"%d\n" % number
            await until(lambda: queue.stat() == JobsStatus(0, 0, 0, 0))


@pytest.mark.costly
async def test_a_killed_producer_lost_nothing_that_it_sent(url: str) -> None:
    """kill -9 at any moment of a write leaves a sound file."""
    generator = random.Random(7)
    async with await opened(url) as queue:
        for _ in range(KILLS):
            with started("produce", url) as process:
                await line(process)
                await anyio.sleep(generator.random() * 0.02)
                process.kill()
                assert process.stdout is not None
                told = process.stdout.read().split()
            got: list[bytes] = []
            while queue.stat().ready:
                got += await queue.receive_many()
            sent = max(map(int, told), default=0) + 1
            assert got[:sent] == [b"%d" % number for number in range(sent)]
            assert len(got) - sent <= 1  # the last one may have been sent, and not told
    check = sqlite3.connect(url.removeprefix("jobs:").partition("?")[0])
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


@pytest.mark.costly
async def test_no_job_is_lost_while_consumers_are_killed(url: str, place: Path) -> None:
    """Each is done at least once; twice only what a killed one had leased."""
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    killed = 0
    async with await opened(url) as queue:
        await queue.send_many([b"%d" % number for number in range(JOBS)])
        with started("consume", url, log) as survivor:
            while queue.stat().ready > JOBS // 10:
                with started("consume", url, log) as process:
                    left = queue.stat().ready
                    await until(lambda left=left: queue.stat().ready < left or not left)
                    process.kill()
                    killed += 1
            await until(lambda: queue.stat() == JobsStatus(0, 0, 0, 0))
            await queue.send(b"")
            assert await anyio.to_thread.run_sync(survivor.wait) == 0
    os.close(log)
    assert killed
    done = Counter((place / "log").read_bytes().split())
    assert done.keys() == {b"%d" % number for number in range(JOBS)}
    assert sum(done.values()) - JOBS <= killed
