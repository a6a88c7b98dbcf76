"""The end of a block: it waits for the server only where its lease may have ended, or where other tasks ask as well."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from time import sleep

import anyio
import pytest

import aipc
from aipc import JobsStatus
from aipc._sys.clock import elapsed
from aipc.testing.expect import settle

from .peers.queues import queue_at, queue_elsewhere
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio
LATE = "a lease had ended before its job was removed"


def given_to_another(redis: RedisServer, id_: str) -> None:
    """As if its lease had ended."""
    assert id_.encode() in redis.command("XCLAIM", "it", "aipc", "another", "0", id_)


async def test_a_block_ends_while_the_server_stands_still(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(4):  # after 5 s without an answer the connection would be dropped
        async with queue_at(redis) as queue:
            await queue.send(b"0")
            with ExitStack() as stack:
                async with queue.lease():
                    redis.freeze()
                    stack.callback(redis.thaw)
            assert queue.stat() == JobsStatus(0, 0, 0, 0)
    assert LATE not in caplog.text


async def test_what_follows_a_block_follows_its_removal(redis: RedisServer) -> None:
    async with queue_at(redis, max_messages=1) as queue:
        for number in range(50):
            queue.send_nowait(b"%d" % number)  # there is room only behind the removal
            async with queue.lease() as job:
                assert (job.data, job.attempts) == (b"%d" % number, 1)
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_a_task_that_stood_still_beyond_its_lease_is_told(redis: RedisServer) -> None:
    async with queue_at(redis, lease_seconds=0.2) as queue, queue_elsewhere(redis, lease_seconds=0.2) as other:
        await queue.send(b"0")
        with pytest.raises(aipc.LeaseLost):  # noqa: PT012
            async with queue.lease() as job:
                sleep(0.3)  # as a process that is stopped: nothing is renewed
                given_to_another(redis, job.id)
        assert other.stat() == JobsStatus(0, 1, 0, 0)


async def test_a_task_whose_connection_was_lost_is_told(redis: RedisServer) -> None:
    async with queue_at(redis) as queue:
        await queue.send(b"0")
        with pytest.raises(aipc.LeaseLost):  # noqa: PT012
            async with queue.lease() as job:
                redis.command("CLIENT", "KILL", "TYPE", "normal")
                given_to_another(redis, job.id)
                assert await queue.revive() == 0  # by a new connection


async def test_a_renewed_lease_is_certain(redis: RedisServer) -> None:
    async with queue_at(redis, lease_seconds=0.3) as queue:
        await queue.send(b"0")
        async with queue.lease() as job:
            consumer = queue._consumer
            with anyio.fail_after(20):
                for _ in range(3):
                    _, since = consumer._leased[job.id, 1]
                    while consumer._leased[job.id, 1][1] == since:
                        await anyio.sleep(0.01)
            redis.freeze()
            try:
                assert consumer.has(job, 0.3)
            finally:
                redis.thaw()


@pytest.mark.parametrize("history", [0, 10])
async def test_a_lease_that_had_ended_all_the_same_is_logged(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, history: int
) -> None:
    async with queue_at(redis, history=history) as queue:
        await queue.send(b"0")
        with caplog.at_level(logging.WARNING, "aipc"):
            async with queue.lease():
                redis.command("FLUSHALL")
            assert queue.stat() == JobsStatus(0, 0, 0, 0)
        assert LATE in caplog.text


@pytest.mark.parametrize("history", [0, 10])
async def test_a_job_that_was_done_in_its_time_is_gone_for_another_that_has_it(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, history: int
) -> None:
    async with (
        queue_at(redis, history=history) as queue,
        queue_elsewhere(redis, lease_seconds=0.1) as other,
        anyio.create_task_group() as tasks,
    ):
        await queue.send(b"0")
        theirs = other.lease()
        async with queue.lease():
            tasks.start_soon(theirs.__aenter__)
            with anyio.fail_after(20):
                while theirs._job is None:  # a tenth of a second, in which it is renewed here each 10 s
                    await anyio.sleep(0.01)
        assert queue.stat() == JobsStatus(0, 0, 0, 0)
        await theirs.__aexit__(None, None, None)
        assert other.stat() == JobsStatus(0, 0, 0, 0)
        assert LATE in caplog.text


async def test_a_removal_that_comes_late_removes_what_was_given_back(redis: RedisServer) -> None:
    async with queue_at(redis) as queue, queue_elsewhere(redis, lease_seconds=0.1) as other:
        await queue.send(b"0")
        async with queue.lease() as job:
            with pytest.raises(ZeroDivisionError), anyio.fail_after(20):  # noqa: PT012
                async with other.lease() as theirs:  # after a tenth of a second
                    assert theirs.id == job.id
                    raise ZeroDivisionError
            while other.stat() != JobsStatus(1, 0, 0, 0):  # it may have been sent to the other one again
                await anyio.sleep(0.01)
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_a_sender_that_waits_has_the_room(redis: RedisServer) -> None:
    async with queue_at(redis, max_messages=1) as queue, queue_elsewhere(redis, max_messages=1) as other:
        await queue.send(b"0")
        with anyio.fail_after(4):  # waiters look again each 5 s
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.send, b"1")
                await settle()
                async with queue.lease() as job:
                    assert job.data == b"0"
        assert await queue.receive() == b"1"


async def test_a_removal_that_is_asked_twice_was_in_time(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with queue_at(redis) as queue:
        await queue.send(b"0")
        async with queue.lease() as job:
            pass
        queue._consumer.tell_done([job], 0, certain=True)
        queue._link.lost_at = elapsed() + 60  # as if its answer had been lost
        assert queue.stat() == JobsStatus(0, 0, 0, 0)
        assert LATE not in caplog.text
