"""Topics in shared memory: readers that are overtaken, and memory that nobody but the publisher can write."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import TopicMessage
from aipc._sys import memfd
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle, until
from aipc.wire.broadcast import longest

from ..subjects.counts import CANCELLATIONS

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parent.parent.parent
CAPACITY = 4096


@pytest.fixture
def url(place: Path) -> str:
    return f"shm:{place}/topics"


async def test_an_overtaken_subscriber_learns_what_it_missed_of_its_topics(url: str) -> None:
    async with (
        aipc.open_publisher(url, capacity=CAPACITY) as publisher,
        aipc.open_subscriber(url, "eur.*") as some,
        aipc.open_subscriber(url) as everything,
    ):
        for number in range(1_000):
            await publisher.publish(f"eur.{number % 2}", b"%d" % number)
            await publisher.publish("gbp", b"%d" % number)
        for topic in ("eur.0", "gbp", "eur.1"):
            await publisher.publish(topic, b"end")
        with anyio.fail_after(20):
            for subscriber, total, topics in ((some, 1_002, 2), (everything, 2_003, 3)):
                got: list[TopicMessage] = []
                while [message.data for message in got[-topics:]] != [b"end"] * topics:
                    got.append(await subscriber.receive())
                assert got[0].missed > 0
                assert topics <= len(got) < 200
                assert len(got) + subscriber.missed == total == len(got) + sum(message.missed for message in got)


async def test_topics_had_before_a_subscriber_came_are_not_missed(url: str) -> None:
    async with aipc.open_publisher(url) as publisher:
        for number in range(5_000):
            publisher.publish_nowait(f"topic {number}", b"")
        async with aipc.open_subscriber(url, "topic *") as subscriber:
            await publisher.publish("topic 7", b"x")
            await publisher.publish("new", b"y")
            await publisher.publish("topic new", b"z")
            assert await subscriber.receive() == TopicMessage("topic 7", b"x")
            assert await subscriber.receive() == TopicMessage("topic new", b"z")


async def test_messages_of_any_length(url: str) -> None:
    async with aipc.open_publisher(url, capacity=CAPACITY) as publisher, aipc.open_subscriber(url) as subscriber:
        most = longest(CAPACITY) - 1
        for length in [*range(200), *range(most - 20, most + 1)] * 3:
            await publisher.publish("t", bytes([length % 256]) * length)
            assert await subscriber.receive() == TopicMessage("t", bytes([length % 256]) * length)
        with pytest.raises(aipc.MessageTooLarge):
            await publisher.publish("t", bytes(most + 1))


async def test_nobody_else_can_write(url: str) -> None:
    async with aipc.open_publisher(url), aipc.open_channel(url.replace("shm", "unix", 1), fds=1) as channel:
        await channel.send(b"\1")
        (fd,) = (await channel.receive_message()).fds
        size = memfd.check(fd)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, size)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        os.close(fd)


async def test_what_was_published_before_the_end_is_received(url: str) -> None:
    publisher = await aipc.open_publisher(url)
    async with aipc.open_subscriber(url) as subscriber:
        await publisher.publish("t", b"1")
        await publisher.publish("t", b"2")
        await publisher.aclose()
        assert [(await subscriber.receive()).data for _ in range(2)] == [b"1", b"2"]
        with anyio.move_on_after(0.05):
            await subscriber.receive()
        assert not subscriber.connected


async def test_a_waiting_subscriber_is_woken(url: str) -> None:
    got: list[bytes] = []
    async with (
        aipc.open_publisher(url) as publisher,
        aipc.open_subscriber(url) as first,
        aipc.open_subscriber(url) as second,
        anyio.create_task_group() as tasks,
    ):

        async def receive(subscriber: aipc.Subscriber) -> None:
            async for message in subscriber:
                got.append(message.data)

        tasks.start_soon(receive, first)
        tasks.start_soon(receive, second)
        for number in range(20):
            await settle()
            await publisher.publish("t", b"%d" % number)
            await until(lambda number=number: len(got) == 2 * number + 2)
        tasks.cancel_scope.cancel()
    assert got == [b"%d" % (number // 2) for number in range(40)]


async def test_another_process_is_woken_and_its_stop_slows_nobody(url: str) -> None:
    code = f"""
import anyio, aipc
async def main():
    async with aipc.open_subscriber({url!r}) as subscriber:
        got = 0
        async for message in subscriber:
            got += 1
            print(got + subscriber.missed, subscriber.missed > 0, flush=True)
anyio.run(main)
"""
    async with aipc.open_publisher(url, capacity=CAPACITY) as publisher:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=_ROOT) as process:
            assert process.stdout is not None
            with anyio.fail_after(20):
                await publisher.wait_subscribers(1)
                for number in range(1, 6):
                    await publisher.publish("t", b"")
                    assert await anyio.to_thread.run_sync(process.stdout.readline) == b"%d False\n" % number
                process.send_signal(signal.SIGSTOP)
                for _ in range(1_000):
                    await publisher.publish("t", bytes(500))
                process.send_signal(signal.SIGCONT)
                told = (0, b"")
                while told[0] != 1_005:
                    count, some = (await anyio.to_thread.run_sync(process.stdout.readline)).split()
                    told = int(count), some
                assert told[1] == b"True"
            process.kill()
        await until(lambda: publisher.subscribers == 0)


async def test_cancelled_receives_lose_nothing(url: str) -> None:
    async with aipc.open_publisher(url) as publisher, aipc.open_subscriber(url) as subscriber:
        for number in range(CANCELLATIONS):
            published = False

            def suspended(at: int, parked: bool, number: int = number) -> None:
                nonlocal published
                if not published:
                    published = True
                    publisher.publish_nowait("t", b"%d" % number)

            outcome = await inject(
                subscriber.receive(), number // 2 % 4, (Moment.AWAIT, Moment.READINESS)[number % 2], suspended
            )
            if outcome is CANCELLED:
                if not published:
                    publisher.publish_nowait("t", b"%d" % number)
                outcome = await subscriber.receive()
            assert outcome == TopicMessage("t", b"%d" % number)


async def test_mistakes_are_named(url: str) -> None:
    with pytest.raises(aipc.AddressError, match="drop_oldest"):
        aipc.open_publisher(url, overflow="block")
    with pytest.raises(aipc.AddressError, match="power of two"):
        await aipc.open_publisher(url, capacity=5000)
    with pytest.raises(aipc.AddressError, match="shm: only"):
        aipc.open_publisher(url.replace("shm", "unix", 1), capacity=4096)
