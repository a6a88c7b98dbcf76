"""The job that comes along when one is removed: for the next lease, or soon for others."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from .peers.queues import queue_at, queue_elsewhere
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _kept_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is still there when a busy machine comes to look."""
    monkeypatch.setattr("aipc.redis.consumer._KEPT", 1.0)


@pytest.fixture(autouse=True)
def _awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removals are, as where other tasks ask at the same time."""
    monkeypatch.setattr("aipc.redis.links.link.Link.idle", False)


def takes(redis: RedisServer) -> int:
    """How often the server looked for new jobs."""
    stats = redis.command("INFO", "commandstats").decode()
    return int(stats.partition("cmdstat_xreadgroup:calls=")[2].partition(",")[0])


def scripts_run(redis: RedisServer) -> int:
    stats = redis.command("INFO", "commandstats").decode()
    return int(stats.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])


async def test_one_after_the_other_each_is_asked_for_once(redis: RedisServer) -> None:
    async with queue_at(redis) as queue:
        await queue.send_many([b"%d" % number for number in range(20)])
        for number in range(20):
            if number:
                assert queue._consumer._ready
            async with queue.lease() as job:
                assert (job.data, job.attempts) == (b"%d" % number, 1)
        assert not queue._consumer._ready
        assert takes(redis) <= 22  # the group is made in between, and the last one finds nothing


async def test_each_of_several_tasks_has_its_next_one(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipc.redis.links.soon._IN_A_ROW", 0)  # no answer comes before all have asked
    tasks, barrier = 5, anyio.Event()
    seen: list[bytes] = []

    async def work(*, until_all_have_one: bool) -> None:
        async with queue.lease() as job:
            assert job.attempts == 1
            seen.append(job.data)
            if len(seen) == tasks:
                barrier.set()
            if until_all_have_one:
                await barrier.wait()

    async with queue_at(redis) as queue:
        await queue.send_many([b"%d" % number for number in range(2 * tasks)])
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(partial(work, until_all_have_one=True))
        assert [job.data for _, job in queue._consumer._ready] == [b"%d" % number for number in range(tasks, 2 * tasks)]
        before = takes(redis)
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(partial(work, until_all_have_one=False))
        assert sorted(seen) == sorted(b"%d" % number for number in range(2 * tasks))
        assert takes(redis) <= before + tasks  # with the removals, in vain
        assert (queue.stat().ready, queue.stat().leased) == (0, 0)


async def test_many_tasks_ask_for_hardly_any_job_alone(redis: RedisServer) -> None:
    tasks, jobs = 20, 400

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with queue.lease():
                pass

    left = jobs
    async with queue_at(redis) as queue:
        await queue.send_many([b"x"] * jobs)
        before = scripts_run(redis)
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(work)
        assert scripts_run(redis) <= before + jobs + 2 * tasks
        assert not queue._consumer._asking


async def test_it_counts_as_ready_and_is_given_back_soon(redis: RedisServer) -> None:
    with anyio.fail_after(4):  # waiters look again each 5 s
        async with queue_at(redis) as queue, queue_elsewhere(redis) as other:
            await queue.send_many([b"0", b"1", b"2", b"3"])
            async with queue.lease():
                pass
            assert queue._consumer._ready
            assert queue.stat().ready == 3
            for number in (1, 2):
                async with queue.lease() as job:
                    assert (job.data, job.attempts) == (b"%d" % number, 1)
            queue._consumer._pause = 0
            await queue.send(b"4")
            async with queue.lease() as job:
                assert job.data == b"3"
            assert queue._consumer._ready
            async with other.lease() as job:  # waits until it is given back
                assert (job.data, job.attempts) == (b"4", 1)


async def test_closing_gives_it_back(redis: RedisServer) -> None:
    with anyio.fail_after(4):
        async with queue_elsewhere(redis) as other:
            async with queue_at(redis) as queue:
                await queue.send_many([b"0", b"1"])
                async with queue.lease():
                    pass
                assert queue._consumer._ready
            assert other.receive_nowait() == b"1"


async def test_a_cancelled_task_does_not_take_it(redis: RedisServer) -> None:
    async with queue_at(redis) as queue:
        await queue.send_many([b"0", b"1"])
        async with queue.lease():
            pass
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with queue.lease():
                pytest.fail("it was cancelled")
        assert await queue.receive() == b"1"
