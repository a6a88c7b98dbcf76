"""Job queues on a server: leases, attempts, delays, limits, and what another client of the server sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc import JobsStatus
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.queue import RemoteJob
from aipc.testing.expect import in_child, settle

from .peers.servers import RedisServer, shared_server

pytestmark = pytest.mark.anyio
EMPTY = JobsStatus(0, 0, 0, 0)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield shared_server()
    shared_server().command("FLUSHALL")


@asynccontextmanager
async def opened(server: RedisServer, **options: Any) -> AsyncIterator[RemoteJobChannel]:
    with anyio.fail_after(30):
        async with aipc.open_channel(server.url(), **options) as channel:
            yield cast(RemoteJobChannel, channel)


async def emptied(queue: RemoteJobChannel) -> None:
    """Acknowledgements are on their way: until they are there."""
    await queue._link.flushed()
    assert queue.stat() == EMPTY


async def fail(queue: RemoteJobChannel, **selection: bool) -> RemoteJob:
    """Lease a job, and fail."""
    with suppress(LookupError):
        async with queue.lease(**selection) as job:
            raise LookupError
    return job


async def test_a_lease_that_ends_well_removes_its_job(server: RedisServer) -> None:
    async with opened(server) as queue:
        await queue.send(b"one", type=3)
        async with queue.lease() as job:
            assert (job.data, job.type, job.attempts) == (b"one", 3, 1)
            assert queue.stat() == JobsStatus(ready=0, leased=1, delayed=0, dead=0)
        assert queue.stat() == EMPTY


async def test_what_is_given_back_comes_first_and_keeps_its_id(server: RedisServer) -> None:
    async with opened(server) as queue:
        await queue.send_many([b"one", b"two"])
        first = await fail(queue)
        async with queue.lease() as second:
            assert (second.id, second.attempts, second.data) == (first.id, 2, b"one")


async def test_a_cancelled_block_gives_the_job_back(server: RedisServer) -> None:
    async with opened(server) as queue:
        await queue.send(b"one")
        with anyio.CancelScope() as scope:
            async with queue.lease():
                scope.cancel()
                await anyio.sleep_forever()
        assert queue.stat().ready == 1


async def test_closing_gives_jobs_back_without_an_attempt(server: RedisServer) -> None:
    async with opened(server) as other:
        async with opened(server) as queue:
            await queue.send(b"one")
            with pytest.raises(anyio.ClosedResourceError):
                async with queue.lease():
                    await queue.aclose()
        async with other.lease() as job:
            assert job.attempts == 1


async def test_jobs_that_failed_too_often_are_dead_until_they_are_revived(server: RedisServer) -> None:
    async with opened(server, max_attempts=2) as queue:
        await queue.send(b"bad")
        for _ in range(2):
            await fail(queue)
        assert queue.stat() == JobsStatus(0, 0, 0, 1)
        for _ in range(3):  # as often as may be
            await fail(queue, dead=True)
            assert queue.stat() == JobsStatus(0, 0, 0, 1)
        assert await queue.revive() == 1
        assert await queue.receive() == b"bad"
        await queue.send(b"dead")
        for _ in range(2):
            await fail(queue)
        assert await queue.receive(dead=True) == b"dead"
        await emptied(queue)


async def test_a_delayed_job_waits(server: RedisServer) -> None:
    async with opened(server) as queue:
        before = anyio.current_time()
        await queue.send(b"|later|\n\0", delay=0.2, type=5)
        assert queue.stat() == JobsStatus(0, 0, 1, 0)
        with pytest.raises(anyio.WouldBlock):
            queue.receive_nowait()
        message = await queue.receive_message()
        assert (message.data, message.type) == (b"|later|\n\0", 5)
        assert 0.19 <= anyio.current_time() - before < 5


async def test_a_full_queue_makes_senders_wait(server: RedisServer) -> None:
    async with opened(server, max_messages=2) as queue, anyio.create_task_group() as tasks:
        await queue.send_many([b"1", b"2"])
        with pytest.raises(anyio.WouldBlock):
            queue.send_nowait(b"3")
        tasks.start_soon(queue.send_many, [b"3", b"4", b"5"])
        await settle()
        got = [await queue.receive() for _ in range(5)]
        assert got == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_consumer_that_is_gone_loses_its_job_after_the_lease_and_not_before(server: RedisServer) -> None:
    async with opened(server, lease_seconds=0.5) as queue:
        await queue.send(b"one")
        lease = queue.lease()
        job = await lease.__aenter__()
        with anyio.move_on_after(1.2) as patience:  # renewed all the while
            await queue.receive()
        assert patience.cancelled_caught
        queue._leases.clear()  # as if the process had died
        async with queue.lease() as again:
            assert (again.id, again.attempts) == (job.id, 2)
            with pytest.raises(aipc.LeaseLost):
                await lease.__aexit__(None, None, None)
        await emptied(queue)


async def test_waiting_tasks_of_several_channels_have_each_message_once(server: RedisServer) -> None:
    got: list[bytes] = []
    async with opened(server) as queue, opened(server) as other, anyio.create_task_group() as tasks:

        async def receive(channel: aipc.Channel) -> None:
            for _ in range(10):
                got.append(await channel.receive())

        for channel in (queue, queue, other, other):
            tasks.start_soon(receive, channel)
        await settle()
        for number in range(40):
            await queue.send(b"%d" % number)
    assert sorted(got, key=int) == [b"%d" % number for number in range(40)]


async def test_history_keeps_what_was_done(server: RedisServer) -> None:
    async with opened(server, history=10) as queue:
        await queue.send(b"one")
        await queue.receive()
        await emptied(queue)
    assert b"one" in server.command("XRANGE", "{it}:done", "-", "+")


async def test_another_client_adds_a_job(server: RedisServer) -> None:
    async with opened(server) as queue:
        server.command("XADD", "it", "*", "d", "from redis-cli")
        async with queue.lease() as job:
            assert (job.data, job.type) == (b"from redis-cli", 1)


async def test_what_a_stream_can_not_do(server: RedisServer) -> None:
    async with opened(server) as queue:
        with pytest.raises(aipc.UnsupportedOperation, match="a queue for each type"):
            await queue.receive(type=3)
        with pytest.raises(aipc.UnsupportedOperation, match="a queue for each priority"):
            await queue.send(b"", priority=3)
        with pytest.raises(aipc.UnsupportedOperation, match="takes: type, delay"):
            await queue.send(b"", color=3)
        with pytest.raises(aipc.InvalidMessage):
            await queue.send(b"", delay=-1)
        with pytest.raises(aipc.InvalidMessage):
            await queue.send(b"", type=0)


async def test_a_queue_that_must_be_there(server: RedisServer) -> None:
    with pytest.raises(aipc.ObjectMissing):
        await aipc.open_channel(server.url(), create=False)
    server.command("SET", "it", "text")
    with pytest.raises(aipc.WrongObject):
        await aipc.open_channel(server.url())


async def test_a_forked_child_refuses(server: RedisServer) -> None:
    async with opened(server) as queue:

        def use() -> None:
            with pytest.raises(aipc.ForkedError):
                queue.send_nowait(b"x")
            queue.close()

        in_child(use)
        await queue.send(b"still there")
        assert await queue.receive() == b"still there"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://host/0", "names no object"),
        ("redis:///0/name", "needs the server's host"),
        ("redis://host:x/0/name", "needs the server's host"),
        ("redis://host/zero/name", "no number of a database"),
        ("redis+unix:?name=x", "needs the absolute path of the server's socket"),
        ("redis://host/0/name?cafile=x", "option of rediss:, rediss-sentinel: and rediss-cluster: only"),
        ("redis://host/0/name?lease_seconds=0.01", "lease_seconds=0.01"),
        ("redis://host/0/name?lease_seconds=-1", "number of seconds"),
    ],
)
async def test_urls_that_can_not_be_meant(url: str, why: str) -> None:
    with pytest.raises(aipc.AddressError, match=why):
        await aipc.open_channel(url)


async def test_a_job_of_another_client_is_found_though_nobody_wakes_for_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipc.redis.links.wakes._LONGEST_WAIT", 1.0)
    found: list[bytes] = []

    async def receive() -> None:
        found.append(await queue.receive())

    async with opened(server) as queue, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(receive)
        while server.command("ZCARD", queue._queue.takers) != b":1\r\n":
            await settle()
        for data in ("0", "1"):
            server.command("XADD", queue._queue.keys[0], "*", "t", "1", "d", data)
    assert sorted(found) == [b"0", b"1"]
