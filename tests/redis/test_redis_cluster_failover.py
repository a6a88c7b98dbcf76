"""A cluster whose master dies, and whose slots move, while objects there are in use."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from operator import gt
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock
from aipc.testing.expect import until

from ..subjects import times
from .peers.groups import Cluster, replicated, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.costly]
MOVES = times(10, 100)
NAMES = "jobs", "lock", "prices"
SEED = random.randrange(1_000_000)


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    group = Cluster(place)
    yield group
    group.end()


def queue_at(url: str, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url, **options))


def on_node(cluster: Cluster, node: int, kind: str) -> str:
    """The URL of an object there."""
    names = (f"{kind}{number}" for number in range(1000))
    return cluster.url(next(name for name in names if cluster.owner(cluster.slot(name)) == node))


async def publish(publisher: aipc.Publisher, number: int) -> None:
    """What was not acknowledged is published again."""
    while True:
        try:
            await publisher.publish("it", b"%d" % number)
        except anyio.BrokenResourceError:
            continue
        return


async def test_a_master_that_dies_is_replaced(cluster: Cluster) -> None:
    """What was acknowledged, and has reached the replica, stays."""
    dying = 2  # none of those in the URL
    replica = cluster.add_replica(dying)
    jobs, lock_url, prices = (on_node(cluster, dying, kind) for kind in ("jobs", "lock", "prices"))
    with anyio.fail_after(100):
        async with (
            queue_at(jobs, lease_seconds=1) as queue,
            aipc.open_lock(lock_url, ttl=100) as opened,
            aipc.open_publisher(prices, history=100) as publisher,
            aipc.open_subscriber(prices, history=100) as subscriber,
        ):
            lock = cast("RemoteLock", opened)
            await queue.send_many([b"%d" % number for number in range(50)])
            for number in range(10):
                await publish(publisher, number)
            async with lock, queue.lease() as job:
                token = lock.token
                assert job.data == b"0"
                replicated(cluster.servers[dying], replica)
                cluster.servers[dying].kill()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(queue.send, b"50")
                    tasks.start_soon(publish, publisher, 10)
                    await anyio.to_thread.run_sync(wait_until, lambda: b"master" in replica.command("ROLE"), 60)
                    promoted = anyio.current_time()
                assert anyio.current_time() - promoted < 5
                assert lock.token == token
                assert not lock.lost
            async with lock:
                assert lock.token > token
            assert [await queue.receive() for _ in range(50)] == [b"%d" % number for number in range(1, 51)]
            published: list[int] = []
            while not published or published[-1] < 10:
                message = await subscriber.receive()
                assert message.missed == 0
                published.append(int(message.data))
            assert sorted(set(published)) == list(range(11))


async def test_a_waiter_whose_lock_has_moved_does_not_hold_it_unknown_to_the_server(cluster: Cluster) -> None:
    """Its wake-up connection is still at the node from which the slot went; the new one lets it ask again."""
    slot = cluster.slot("lock")
    with anyio.fail_after(20):
        async with (
            aipc.open_lock(cluster.url("lock"), ttl=30) as opened,
            aipc.open_lock(cluster.url("lock"), ttl=30) as waiter,
            anyio.create_task_group() as tasks,
        ):
            holder = cast("RemoteLock", opened)  # each with a link of its own
            await holder.acquire()
            tasks.start_soon(waiter.acquire)
            await until(lambda: b":1" in cluster.servers[cluster.owner(slot)].command("ZCARD", "{lock}:queue"))
            nodes = cluster.begin_move(slot)
            cluster.move_keys(slot, *nodes)
            cluster.end_move(slot, *nodes)
            cluster.settle()
            before = anyio.current_time()
            holder.release()
            await until(lambda: cast("RemoteLock", waiter)._grants)
            assert anyio.current_time() - before < 3
            assert b":1" in cluster.servers[nodes[1]].command("ZCARD", "lock")


async def test_slots_that_move_while_they_are_used(cluster: Cluster) -> None:
    """Again and again, one key after the other: senders, leases, holders of a lock and publishers do not notice."""
    jobs, lock_url, prices = (cluster.url(name) for name in NAMES)
    sent: list[bytes] = []
    published: list[bytes] = []
    got: list[bytes] = []
    tokens: list[int] = []

    print(f"seed {SEED}")
    pauses = random.Random(SEED)

    def pause() -> None:
        time.sleep(pauses.choice([0, 0.001, 0.01]))  # some requests come in between

    def move() -> None:
        for slot in map(cluster.slot, NAMES):
            nodes = cluster.begin_move(slot)
            cluster.move_keys(slot, *nodes, pause)
            pause()
            cluster.end_move(slot, *nodes)
            cluster.settle()

    async def produce(ended: anyio.Event) -> None:
        async with queue_at(jobs) as queue:
            while not ended.is_set():
                data = b"%d" % len(sent)
                await queue.send(data)
                sent.append(data)

    async def consume() -> None:
        async with queue_at(jobs, lease_seconds=1) as queue:
            while True:
                try:
                    async with queue.lease() as job:
                        got.append(job.data)
                except aipc.LeaseLost:
                    continue  # it comes again

    async def hold(ended: anyio.Event) -> None:
        async with aipc.open_lock(lock_url, ttl=20) as opened:
            lock = cast("RemoteLock", opened)
            while not ended.is_set():
                async with lock:
                    tokens.append(lock.token)

    async def tell(ended: anyio.Event) -> None:
        async with (
            aipc.open_publisher(prices, history=100) as publisher,
            aipc.open_subscriber(prices, history=100) as subscriber,
        ):
            while not ended.is_set():
                await publisher.publish("it", b"%d" % len(published))
                published.append((await subscriber.receive()).data)

    ended = anyio.Event()
    with anyio.fail_after(times(60, 900)):
        async with anyio.create_task_group() as consumer:
            consumer.start_soon(consume)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(produce, ended)
                tasks.start_soon(tell, ended)
                tasks.start_soon(hold, ended)
                tasks.start_soon(hold, ended)
                for _ in range(MOVES):
                    before = [len(done) for done in (sent, tokens, published)]
                    await anyio.to_thread.run_sync(move)
                    await until(lambda before=before: all(map(gt, map(len, (sent, tokens, published)), before)))
                ended.set()
            await until(lambda: set(sent) <= set(got))
            consumer.cancel_scope.cancel()
    print(
        f"{len(sent)} sent, {len(got) - len(set(got))} came again, {len(tokens)} acquisitions, {len(published)} published, {MOVES} moves"
    )
    assert tokens == sorted(set(tokens))
    assert published == [b"%d" % number for number in range(len(published))]
