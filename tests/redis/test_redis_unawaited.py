"""What was told and nobody awaits, or whose answers are lost: nothing that was acknowledged is lost, nothing stays leased."""

from __future__ import annotations

import logging
import os

import anyio
import pytest

import aipc
from aipc import JobsStatus
from aipc.redis.channel import RemoteJobChannel
from aipc.testing.expect import settle

from .peers.queues import queue_at, queue_elsewhere
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio
EMPTY = JobsStatus(0, 0, 0, 0)


def lose_answers(queue: RemoteJobChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All from now on, until `monkeypatch.undo()`."""
    monkeypatch.setattr(queue._link, "_received", lambda replies: None)


def cut(queue: RemoteJobChannel) -> None:
    assert queue._link.connection is not None
    queue._link.connection.close()


async def until_there_are(redis: RedisServer, count: int, *command: str) -> None:
    with anyio.fail_after(20):
        while redis.command(*command) != b":%d\r\n" % count:
            await anyio.sleep(0.01)


async def test_a_send_that_found_no_room_is_not_taken_for_one_that_did(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with queue_elsewhere(redis) as other, queue_at(redis, max_messages=1) as queue:
        async with anyio.create_task_group() as tasks:
            await queue.send(b"0")
            tasks.start_soon(queue.send, b"1")
            await until_there_are(redis, 1, "ZCARD", queue._queue.senders)  # from now on the server can wake it
            assert await queue.receive() == b"0"
            lease = queue.lease()
            assert (await lease.__aenter__()).data == b"1"
            lose_answers(queue, monkeypatch)
            tasks.start_soon(queue.send, b"A")
            await until_there_are(redis, 1, "ZCARD", queue._queue.senders)  # it found no room
            tasks.start_soon(lease.__aexit__, None, None, None)
            await until_there_are(redis, 0, "XLEN", "it")
            tasks.start_soon(queue.send, b"B")
            await until_there_are(redis, 1, "XLEN", "it")
            monkeypatch.undo()
            cut(queue)
            with anyio.fail_after(20):
                assert {await other.receive() for _ in range(2)} == {b"A", b"B"}
        assert other.stat() == EMPTY
        await queue._link.flushed()
        await queue.send(b"C")
        assert redis.command("ZCARD", queue._queue._limited_keys[6]) == b":1\r\n"  # the answered ones are forgotten


async def test_closing_sends_an_acknowledgement_that_has_not_left(redis: RedisServer) -> None:
    async with queue_elsewhere(redis) as other:
        queue = await queue_at(redis)
        await queue.send(b"0")
        jobs = await queue._take(queue._consumer, 1)
        redis.freeze()
        try:
            queue._link._asking = 100  # many tasks: what they ask, and tell, gathers
            for _ in range(2):
                queue._link.tell(queue._queue.stat())
            queue._acknowledged(queue._consumer, jobs)
            assert len(queue._link._unsent) == 2
            queue.close()
        finally:
            redis.thaw()
        assert other.stat() == EMPTY


async def test_closing_waits_for_a_new_connection(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with queue_elsewhere(redis) as other:
        await other.send(b"0")
        async with queue_at(redis) as queue:
            async with queue.lease():
                monkeypatch.setattr(queue._link, "write", lambda data: True)  # it is lost on its way
            monkeypatch.undo()
            cut(queue)
            await settle()
        assert other.stat() == EMPTY


async def test_what_is_given_up_is_logged_and_forgotten(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with queue_at(redis) as queue:
        await queue.send(b"0")
        async with queue.lease():
            redis.kill()
        redis.options = (*redis.options, "--requirepass", "secret")
        os.unlink(redis.path)
        redis.command = lambda *_: b""  # type: ignore[method-assign] # it does not know the password
        redis.start()
        with anyio.fail_after(20):
            while "given up that nobody awaits" not in caplog.text:
                await anyio.sleep(0.01)
        assert not queue._consumer._leased
        assert "secret" not in caplog.text


async def test_an_error_is_logged(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with queue_at(redis) as queue:
        await queue.send(b"0")
        with caplog.at_level(logging.WARNING, "aipc"):
            async with queue.lease():
                redis.command("SET", "it", "no stream")
            with pytest.raises(aipc.exceptions.WrongObject):
                queue.stat()
        assert "a command failed whose answer nobody awaits" in caplog.text
        assert not queue._consumer._leased


async def test_one_job_is_leased_twice_by_one_channel(redis: RedisServer) -> None:
    async with queue_at(redis) as queue, queue_elsewhere(redis) as other:
        await queue.send(b"0")
        first = queue.lease()
        await first.__aenter__()
        await until_there_are(redis, 1, "XLEN", "it")
        await anyio.sleep(0.002)  # it counts as left by a dead consumer after 1 ms
        await other._link.ask(other._queue.tend(0.001, 0))
        second = queue.lease()
        assert (await second.__aenter__()).attempts == 2
        queue._leases._renew()
        assert queue.stat() == JobsStatus(0, 1, 0, 0)
        assert list(queue._leases._jobs.values()) == [second._job]
        assert first._job is not None
        assert not queue._consumer.has(first._job, 30)
        await first.__aexit__(ValueError, ValueError(), None)
        await second.__aexit__(ValueError, ValueError(), None)
        while queue.stat() != JobsStatus(1, 0, 0, 0):  # it may have been sent here again
            await anyio.sleep(0.01)


async def test_without_the_servers_clock_nothing_is_certain(redis: RedisServer) -> None:
    async with queue_at(redis) as queue:
        consumer = queue._consumer
        taker = consumer._known()
        consumer.received(f"{taker} 1 1-1 1 1 data".encode())
        assert consumer.ready(0.0) is None
        assert queue.stat() == EMPTY


async def test_cancelled_before_an_error_a_block_asks_for_its_next_job_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipc.redis.links.link.Link.idle", False)
    async with queue_at(redis) as queue:
        await queue.send(b"0")
        lease = queue.lease()
        await lease.__aenter__()
        redis.command("SET", "it", "no stream")
        redis.freeze()
        try:
            with anyio.CancelScope() as scope:
                scope.cancel()
                queue._link.tell(queue._queue.stat())
                await lease.__aexit__(None, None, None)
        finally:
            redis.thaw()
        await queue._link.flushed()
        assert not queue._consumer._asking
