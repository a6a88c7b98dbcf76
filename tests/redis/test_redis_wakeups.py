"""A job that comes with the wake-up of whoever waits for one; and answers that are read by the task that asked."""

from __future__ import annotations

import socket
from time import perf_counter
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc._io.loop.spin import Spin
from aipc._sys import probes
from aipc.redis.channel import RemoteJobChannel

from ..native import native
from .peers.queues import queue_at, queue_elsewhere
from .peers.servers import RedisServer
from .test_redis_ahead import scripts_run

pytestmark = pytest.mark.anyio
QUICKLY = 4
"""Seconds: a task that waits looks again after 5, and a lease ends after 30."""

needs_looks = pytest.mark.skipif(native is None or not probes.enabled("spin"), reason="tests the functions in C, and the spin")


async def registered(queue: RemoteJobChannel, redis: RedisServer, count: int = 1) -> None:
    """Wait until so many processes wait at the server, and know it."""
    while queue._link.unanswered or redis.command("ZCARD", queue._consumer.queue.takers) != b":%d\r\n" % count:
        await anyio.lowlevel.checkpoint()


async def test_who_waits_asks_once(redis: RedisServer) -> None:
    got: list[bytes] = []

    async def work() -> None:
        async with queue.lease() as job:
            got.append(job.data)

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue, queue_elsewhere(redis) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await registered(queue, redis)
                before = scripts_run(redis)
                await other.send(b"a job")
            assert got == [b"a job"]
            assert scripts_run(redis) == before + 2  # it was sent, and removed


async def test_a_job_that_was_sent_long_ago_is_asked_for_again(redis: RedisServer) -> None:
    """While this process was stopped, the job may have become another one's."""
    got: list[tuple[bytes, int]] = []

    async def work() -> None:
        async with queue.lease() as job:
            got.append((job.data, job.attempts))

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis, lease_seconds=10) as queue, queue_elsewhere(redis) as other:
            for seconds, more in (0.5, 0), (1.5, 2):  # more: given back, and taken again
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(work)
                    await registered(queue, redis)
                    before = scripts_run(redis)
                    queue._consumer._clock -= seconds
                    await other.send(b"a job")
                assert got.pop() == (b"a job", 1)
                assert scripts_run(redis) == before + 2 + more


async def test_what_others_publish_does_no_harm(redis: RedisServer) -> None:
    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue, anyio.create_task_group() as tasks:
            tasks.start_soon(queue.receive)
            await registered(queue, redis)
            place, number = queue._consumer.queue.takers, queue._link.wakes.connection
            for news in ("", "\0", "\0 ", "\0x", f"\0{queue._link.name}.0 1 1-1 1 1 ", "\0\xff\xff \xff"):
                redis.command("PUBLISH", f"aipc:{queue._link.name}", place + news)
            await queue.send(b"a job")
            assert queue._link.wakes.connection is number


@pytest.mark.parametrize("size", [0, 65_536, 65_537, 1_000_000])
async def test_jobs_of_any_length(size: int, redis: RedisServer) -> None:
    got: list[tuple[bytes, int, int]] = []

    async def work() -> None:
        async with queue.lease() as job:
            got.append((job.data, job.type, job.attempts))

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue, queue_elsewhere(redis) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await registered(queue, redis)
                await other.send(b" \0" * (size // 2) + b"x" * (size % 2), type=7)
            assert got == [(b" \0" * (size // 2) + b"x" * (size % 2), 7, 1)]


@pytest.mark.parametrize(
    ("given", "expected"), [("7", 7), ("9" * 19, 10**19 - 1), ("9" * 20, 1), ("9" * 5_000, 1), ("x", 1), ("", 1), ("1\n", 1)]
)
async def test_types_that_another_client_gave(given: str, expected: int, redis: RedisServer) -> None:
    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue:
            redis.command("XADD", "it", "*", "t", given, "d", "a job")
            message = await queue.receive_message()
            assert (message.data, message.type) == (b"a job", expected)


async def test_a_job_whose_wake_up_is_lost_comes_again(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends when the server has leased the job, and before anybody has read of it."""
    lost: list[Any] = []
    got: list[tuple[bytes, int]] = []

    async def work() -> None:
        async with queue.lease() as job:
            got.append((job.data, job.attempts))

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis, max_attempts=1) as queue, queue_elsewhere(redis) as other:
            wakes = queue._link.wakes

            def lose(message: bytes) -> None:
                lost.append(message)
                monkeypatch.undo()
                assert wakes.connection is not None
                wakes.connection.close()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await registered(queue, redis)
                monkeypatch.setattr(wakes, "_ring", lose)
                await other.send(b"a job")
            assert len(lost) == 1
            assert got == [(b"a job", 1)]
            assert queue.stat() == aipc.JobsStatus(0, 0, 0, 0)
            assert not queue._consumer._leased


async def test_a_job_for_a_task_that_was_cancelled_is_for_others(redis: RedisServer) -> None:
    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue, queue_elsewhere(redis) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.receive)
                await registered(queue, redis)
                tasks.cancel_scope.cancel()
            await other.send(b"a job")
            async with other.lease() as job:
                assert (job.data, job.attempts) == (b"a job", 1)


@pytest.mark.parametrize("how", ["aclose", "close"])
async def test_who_closes_waits_no_more(how: str, redis: RedisServer) -> None:
    with anyio.fail_after(QUICKLY):
        async with queue_elsewhere(redis) as other, queue_at(redis) as stays:  # the connections stay
            await stays.send(b"so that the first look finds one")
            await stays.receive()
            async with queue_at(redis) as queue, anyio.create_task_group() as tasks:
                tasks.start_soon(queue.receive)
                await registered(queue, redis)
                tasks.cancel_scope.cancel()
            del queue
            await other.send(b"a job")
            assert await other.receive() == b"a job"
        async with queue_at(redis) as queue:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.receive)
                await registered(queue, redis)
                tasks.cancel_scope.cancel()
            await queue.aclose() if how == "aclose" else queue.close()
        async with queue_elsewhere(redis) as other:
            await registered(other, redis, 0)


async def test_a_lost_job_is_given_back_once(redis: RedisServer) -> None:
    """Given back uncounted, it is leased anew with the same id and attempts; a second look for what was lost must not end that lease."""
    got: list[Any] = []

    async def work() -> None:
        async with queue.lease() as job:
            got.append(job)

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.receive)
                await registered(queue, redis)
                await queue.send(b"so that it listens")
            await queue.send(b"a job")
            consumer = queue._consumer
            lost = await consumer.take(1, waits=False)
            consumer._leased.clear()  # as if its answer had not come
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await registered(queue, redis)
                consumer.renew()
                consumer.renew()
            assert got == lost
            assert queue.stat() == aipc.JobsStatus(0, 0, 0, 0)


async def test_what_is_had_is_not_lost(redis: RedisServer) -> None:
    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue:
            await queue.send_many([b"0", b"1", b"2"])
            async with queue.lease(), queue.lease():
                queue._consumer.renew()
                await queue._link.flushed()
                assert queue.stat().leased == 2
            assert await queue.receive() == b"2"
            await queue._link.flushed()
            assert not queue._consumer._leased


def spin_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def long(*_: object) -> float:
        return perf_counter() + 5

    monkeypatch.setattr(Spin, "wait_begins", long)
    monkeypatch.setattr(Spin, "give_way", long)


@needs_looks
@pytest.mark.parametrize("in_a_row", [1, 2, 32])
async def test_the_rest_of_a_long_answer_is_read(in_a_row: int, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the link's reader, if the task that asked looks no more."""
    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue:
            for size in (100, 200_000, 30_000, 200_000):
                await queue.send(bytes(size))
            spin_for_long(monkeypatch)
            monkeypatch.setattr("aipc.redis.links.soon._IN_A_ROW", in_a_row)
            for size in (100, 200_000, 30_000, 200_000):
                assert await queue.receive() == bytes(size)


@needs_looks
async def test_other_tasks_have_their_turn(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However quick the answers are: each 33rd question waits as any other."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(QUICKLY):
        async with queue_at(redis) as queue, anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            spin_for_long(monkeypatch)
            while queue._link._soon._in_a_row != 1:
                await queue._link.ask(queue._queue.stat())
            turns = 0
            for _ in range(31):
                await queue._link.ask(queue._queue.stat())
            assert not turns
            await queue._link.ask(queue._queue.stat())
            assert turns
            tasks.cancel_scope.cancel()


@needs_looks
async def test_looks_read_from_nothing_else(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is closed, its reader has not seen that yet, and its descriptor's number is used again."""
    with anyio.fail_after(15):
        async with queue_at(redis) as queue, queue_at(redis, name="another") as another, anyio.create_task_group() as tasks:
            tasks.start_soon(another.receive)  # so that the loop has something else to look for
            await registered(another, redis)
            connection = queue._link.connection
            assert connection is not None
            number = connection.channel.extra(aipc.ChannelAttribute.descriptor)
            spin_for_long(monkeypatch)
            queue._link._soon._pause = 0
            connection.close()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                assert number in (ours.fileno(), theirs.fileno())
                for sock in (ours, theirs):
                    sock.send(b"+OK\r\n")
                await queue.send(b"a job")
                assert ours.recv(100) == theirs.recv(100) == b"+OK\r\n"
            assert await queue.receive() == b"a job"
            tasks.cancel_scope.cancel()


@needs_looks
async def test_why_a_server_refuses_is_told(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the task that asked read it first."""
    async with queue_at(redis) as queue:
        redis.command("REPLICAOF", "127.0.0.1", "1")
        spin_for_long(monkeypatch)
        with anyio.fail_after(QUICKLY), pytest.raises(anyio.BrokenResourceError, match="READONLY"):
            await queue._link.ask(queue._queue.send([(1, b"a job")], 0, 0, waits=False), patient=False)


async def test_a_server_that_ends_while_a_task_looks(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(15):
        async with queue_at(redis) as queue:
            for _ in range(40):
                await queue._link.ask(queue._queue.stat())
            monkeypatch.setattr("aipc.redis.links.soon._IN_A_ROW", 1_000_000)
            write = queue._link.write

            def write_and_end(data: bytes) -> bool:
                monkeypatch.undo()
                redis.kill()
                redis.start()
                return write(data)

            monkeypatch.setattr(queue._link, "write", write_and_end)
            await queue.send(b"a job")
            assert await queue.receive() == b"a job"
