"""Objects in a cluster: each in one slot, and followed when it moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc import rpc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock
from aipc.testing.expect import settle

from .peers.groups import Cluster, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    group = Cluster(place)
    yield group
    group.end()


def queue_at(url: str, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url, **options))


@pytest.mark.costly
async def test_each_object_is_where_its_slot_is(cluster: Cluster) -> None:
    names = ["a", "b", "c", "d"]
    assert {min(cluster.slot(name) // 5461, 2) for name in names} == {0, 1, 2}
    with anyio.fail_after(20):
        for name in names:
            url = cluster.url(name)
            async with queue_at(url, max_attempts=1, max_messages=10, history=3) as queue:
                await queue.send(b"late", delay=0.01)
                await queue.send(b"early")
                assert [await queue.receive() for _ in range(2)] == [b"early", b"late"]
                await queue.send(b"bad")
                with pytest.raises(ZeroDivisionError):
                    async with queue.lease():
                        raise ZeroDivisionError
                async with queue.lease(dead=True) as job:
                    assert job.data == b"bad"
                assert queue.stat().dead == 0
            async with aipc.open_lock(f"{url}-lock") as lock:
                await _hand_over(cast("RemoteLock", lock), f"{url}-lock")
            for history in (0, 10):
                topic = f"{url}-topic{history}"
                async with (
                    aipc.open_publisher(topic, history=history) as publisher,
                    aipc.open_subscriber(topic, history=history) as subscriber,
                ):
                    await publisher.publish("it", b"x")
                    assert (await subscriber.receive()).data == b"x"


async def _hand_over(lock: RemoteLock, url: str) -> None:
    async with aipc.open_lock(url) as other, anyio.create_task_group() as tasks:

        async def wait() -> None:
            async with other:
                assert cast("RemoteLock", other).token > first

        async with lock:
            first = lock.token
            tasks.start_soon(wait)
            await settle()


async def test_calls(cluster: Cluster) -> None:
    async def double(number: int) -> int:
        return 2 * number

    router = rpc.Router()
    router.method(double)
    with anyio.fail_after(20):
        async with await aipc.listen(cluster.url("calls")) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(rpc.serve, listener, router)
            async with rpc.connect(cluster.url("calls")) as client:
                assert await client.call("double", 21) == 42
            tasks.cancel_scope.cancel()


async def test_a_slot_that_moves_is_followed(cluster: Cluster) -> None:
    url, slot = cluster.url("moves"), cluster.slot("moves")
    got: list[bytes] = []
    with anyio.fail_after(20):
        async with queue_at(url) as queue, aipc.open_lock(cluster.url("{moves-lock")) as lock:
            await queue.send(b"0")
            async with queue.lease() as job, anyio.create_task_group() as tasks:
                assert job.data == b"0"
                await queue.send(b"1")
                move = cluster.begin_move(slot)
                cluster.move_keys(slot, *move)
                tasks.start_soon(queue.send, b"2")  # waits: half of the slot is elsewhere
                await settle()
                cluster.end_move(slot, *move)
            async with lock:
                assert cast("RemoteLock", lock).token == 1
            got = [await queue.receive() for _ in range(2)]
    assert got == [b"1", b"2"]
    assert b":1\r\n" in cluster.servers[move[1]].command("EXISTS", "moves")


async def test_a_history_is_read_while_its_slot_moves(cluster: Cluster) -> None:
    """A command about one key is asked of the node that has it already."""
    url, slot = cluster.url("past"), cluster.slot("past")
    with anyio.fail_after(20):
        async with aipc.open_publisher(url, history=10) as publisher:
            await publisher.publish("it", b"x")
            move = cluster.begin_move(slot)
            cluster.move_keys(slot, *move)
            async with aipc.open_subscriber(url, history=10) as subscriber:
                assert (await subscriber.receive()).data == b"x"
            cluster.end_move(slot, *move)
            await publisher.publish("it", b"y")


async def test_an_opening_waits_for_a_cluster_that_is_down_for_a_moment(cluster: Cluster) -> None:
    slot = cluster.slot("a")
    node = cluster.servers[cluster.owner(slot)]
    node.command("CLUSTER", "DELSLOTS", str(slot))

    async def open_and_send() -> None:
        async with queue_at(cluster.url("a")) as queue:
            await queue.send(b"x")

    def refused() -> bool:
        return any(b"errorstat_CLUSTERDOWN" in one.command("INFO", "errorstats") for one in cluster.servers)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_and_send)
            await anyio.to_thread.run_sync(wait_until, refused)
            assert node.command("CLUSTER", "ADDSLOTS", str(slot)).startswith(b"+OK")


async def test_what_is_wrong_is_told_at_once(cluster: Cluster) -> None:
    with anyio.fail_after(10):
        for wrong, match in (("redis-cluster://h/1/it", "no database but 0"), ("redis-cluster://h/0/i}t", "can't contain }")):
            with pytest.raises(aipc.AddressError, match=match):
                await queue_at(wrong)
        name = next(name for name in "abcd" if cluster.slot(name) > 5461)
        with pytest.raises(aipc.ProtocolError, match="redis-cluster://host"):
            await queue_at(f"redis://127.0.0.1:{cluster.ports[0]}/0/{name}")
