"""A master that is found by its sentinels, and followed to another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock
from aipc.testing.expect import settle

from ..internet import free_port
from .peers.groups import Watched, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def watched(place: Path) -> Iterator[Watched]:
    group = Watched(place)
    yield group
    group.end()


def queue_at(url: str, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url, **options))


async def test_a_master_that_dies_is_replaced(watched: Watched) -> None:
    url = watched.url
    with anyio.fail_after(10):
        async with (
            queue_at(url("jobs")) as queue,
            aipc.open_lock(url("lock"), ttl=60) as opened,
            aipc.open_publisher(url("prices")) as publisher,
            aipc.open_subscriber(url("prices")) as subscriber,
        ):
            lock = cast("RemoteLock", opened)
            await queue.send_many([b"%d" % number for number in range(50)])
            async with lock:
                first = lock.token
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_receive, queue, range(50))
                await settle()
            await queue.send(b"kept")
            watched.replicated()
            watched.master.kill()
            await queue.send(b"later")
            assert [await queue.receive() for _ in range(2)] == [b"kept", b"later"]
            async with lock:
                assert lock.token > first
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expect, subscriber, b"after")
                await publisher.wait_subscribers()
                await publisher.publish("it", b"after")


async def _expect(subscriber: aipc.Subscriber, data: bytes) -> None:
    message = await subscriber.receive()
    assert (message.data, message.resumed) == (data, True)


async def _receive(queue: RemoteJobChannel, numbers: range) -> None:
    for number in numbers:
        assert await queue.receive() == b"%d" % number


async def test_who_waits_is_woken_by_the_new_master(watched: Watched) -> None:
    with anyio.fail_after(10):
        async with queue_at(watched.url("jobs")) as queue, anyio.create_task_group() as tasks:
            got: list[bytes] = []

            async def receive() -> None:
                got.append(await queue.receive())

            tasks.start_soon(receive)
            await settle()
            watched.replicated()
            wait_until(lambda: watched.sentinel.command("SENTINEL", "FAILOVER", "it").startswith(b"+OK"))
            wait_until(lambda: str(watched.port).encode() not in watched.sentinel.command("SENTINEL", "MASTER", "it"))
            watched.master.command(
                "REPLICAOF", "127.0.0.1", str(watched.replica_port)
            )  # the sentinel does it, but seconds later
            await queue.send(b"x")
    assert got == [b"x"]
    assert watched.replica.command("ROLE").startswith(b"*3")


async def test_what_is_wrong_is_told_at_once(watched: Watched) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing, match="no master 'other'"):
            await queue_at(watched.url("jobs", master="other"))
        with pytest.raises(aipc.NobodyListens):
            await queue_at(f"redis-sentinel://127.0.0.1:{free_port('127.0.0.1')}/it/0/jobs")
        watched.sentinel.freeze()
        with pytest.raises((anyio.BrokenResourceError, aipc.NobodyListens)):
            await queue_at(watched.url("jobs"))
        watched.sentinel.thaw()


@pytest.mark.parametrize("url", ["redis-sentinel://h/0/jobs", "redis-sentinel://h,/it/0/jobs", "redis-sentinel://h/it/x/jobs"])
async def test_urls_that_say_too_little(url: str) -> None:
    with pytest.raises(aipc.AddressError, match="redis-sentinel://host1"):
        await aipc.open_channel(url)
