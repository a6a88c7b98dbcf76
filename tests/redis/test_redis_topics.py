"""Topics on a server: patterns, history, gaps, limits."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

import anyio
import pytest

import aipc
from aipc.testing.expect import until

from .peers.servers import RedisServer, shared_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield shared_server()
    shared_server().command("FLUSHALL")


@pytest.mark.parametrize("history", [0, 100])
async def test_each_subscriber_has_what_it_wants_once_and_in_order(server: RedisServer, history: int) -> None:
    topics = ["eur.usd", "eur.chf", "usd.jpy", "a[b", "ä.x", "back\\slash", "^", "line\nfeed"]
    wanted: list[tuple[str, ...]] = [
        (),
        ("eur.*",),
        ("eur.*", "*.usd", "eur.usd"),
        ("[!e]*",),
        ("a[[]b",),
        ("?.x",),
        ("*\\*",),
        ("[^]",),
    ]
    url = server.url("prices*", history=history)
    async with aipc.open_publisher(url) as publisher:
        for patterns in wanted:
            with anyio.fail_after(10):
                async with aipc.open_subscriber(url, *patterns) as quotes:
                    await publisher.wait_subscribers()
                    for number, topic in enumerate([*topics, "eur.usd"]):
                        await publisher.publish(topic, b"%d" % number)
                    expected = [
                        (topic, b"%d" % number)
                        for number, topic in enumerate([*topics, "eur.usd"])
                        if not patterns or any(fnmatch.fnmatchcase(topic, pattern) for pattern in patterns)
                    ]
                    got = [await quotes.receive() for _ in expected]
                    assert [(message.topic, message.data) for message in got] == expected
                    assert not any(message.missed for message in got)
            server.command("DEL", "prices*")


async def test_who_was_away_reads_what_it_missed(server: RedisServer) -> None:
    url = server.url("news", history=1000)
    with anyio.fail_after(10):
        async with aipc.open_publisher(url) as publisher:
            for number in range(1200):
                publisher.publish_nowait("a", b"%d" % number)
            await publisher.flush()
            async with aipc.open_subscriber(url) as news:
                first = await news.receive()
                assert int(first.data) <= 200
                got = [await news.receive() for _ in range(1199 - int(first.data))]
                assert got[-1].data == b"1199"
                await publisher.publish("a", b"live")
                assert (await news.receive()).data == b"live"


@pytest.mark.parametrize("history", [0, 100])
async def test_a_lost_connection_shows(server: RedisServer, history: int) -> None:
    url = server.url("news", history=history)
    with anyio.fail_after(10):
        async with aipc.open_publisher(url) as publisher, aipc.open_subscriber(url) as news, anyio.create_task_group() as tasks:
            got: list[aipc.TopicMessage] = []

            async def receive() -> None:
                got.append(await news.receive())

            await publisher.publish("a", b"1")
            await receive()
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await publisher.publish("a", b"2")
            tasks.start_soon(receive)
            if not history:
                await until(lambda: news.connected)
                await publisher.wait_subscribers()
                while len(got) < 2:
                    await publisher.publish("a", b"3")
            await until(lambda: len(got) == 2)
            assert (got[1].data, got[1].resumed) == (b"2" if history else b"3", True)


async def test_another_client_publishes(server: RedisServer) -> None:
    with anyio.fail_after(10):
        async with aipc.open_subscriber(server.url("news"), "a*") as news:
            server.command("PUBLISH", "news:abc", "text")
            assert await news.receive() == aipc.TopicMessage("abc", b"text")


async def test_limits_and_ends(server: RedisServer) -> None:
    async with aipc.open_publisher(server.url("news"), max_message_size=10) as publisher:
        assert publisher.subscribers == 0
        async with aipc.open_subscriber(server.url("news")):
            assert publisher.subscribers == 1
        with pytest.raises(aipc.MessageTooLarge):
            await publisher.publish("abc", b"12345678")
        with pytest.raises(aipc.AddressError, match="unknown option 'overflow'"):
            aipc.open_publisher(server.url("news"), overflow="block")
    with pytest.raises(anyio.ClosedResourceError):
        publisher.publish_nowait("a", b"")
    with pytest.raises(aipc.ObjectMissing):
        await aipc.open_subscriber(f"redis+unix:{server.path}.no?name=x")
