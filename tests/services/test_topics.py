"""Topics over sockets: filters, queues, counts of what was missed, publishers that come and go."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc import Subscriber, TopicMessage
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import in_child, until

from ..subjects.channels import certified
from ..subjects.counts import CANCELLATIONS

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def unix(place: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"unix:{place}/topics", {}, {}


def tcp(place: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"tcp://127.0.0.1:{free_port()}", {"reuse": True}, {}


def shm(place: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"shm:{place}/topics", {"capacity": 4096}, {}


def tls(place: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    server, client = certified()
    return f"tls://127.0.0.1:{free_port()}", {"reuse": True, "ssl_context": server}, {"ssl_context": client}


Kind = Callable[[Path], tuple[str, dict[str, Any], dict[str, Any]]]


@pytest.fixture(params=[unix, tcp, tls, shm], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param
    return made


@pytest.fixture
def url(place: Path) -> str:
    return f"unix:{place}/topics"


async def take(subscriber: Subscriber, count: int) -> list[TopicMessage]:
    with anyio.fail_after(20):
        return [await subscriber.receive() for _ in range(count)]


async def test_subscribers_get_what_they_asked_for(kind: Kind, place: Path) -> None:
    url, ours, theirs = kind(place)
    async with (
        aipc.open_publisher(url, **ours) as publisher,
        aipc.open_subscriber(url, "eur.*", "gbp.usd", **theirs) as some,
        aipc.open_subscriber(url, **theirs) as everything,
    ):
        assert publisher.subscribers == 2
        for topic in ("eur.usd", "gbp.jpy", "gbp.usd", "EUR.usd", ""):
            await publisher.publish(topic, topic.encode())
        assert [message.topic for message in await take(some, 2)] == ["eur.usd", "gbp.usd"]
        assert [message.data for message in await take(everything, 5)] == [b"eur.usd", b"gbp.jpy", b"gbp.usd", b"EUR.usd", b""]
        assert some.missed == everything.missed == 0


async def test_a_subscriber_may_come_first_and_survives_the_publisher(kind: Kind, place: Path) -> None:
    url, ours, theirs = kind(place)
    async with aipc.open_subscriber(url, **theirs) as subscriber:
        for number in range(3):
            async with anyio.create_task_group() as tasks:
                got: list[TopicMessage] = []

                async def receive(got: list[TopicMessage] = got) -> None:
                    got += await take(subscriber, 1)

                tasks.start_soon(receive)
                async with aipc.open_publisher(url, **ours) as publisher:
                    with anyio.fail_after(20):
                        await publisher.wait_subscribers()
                    await publisher.publish("t", b"%d" % number)
            assert got == [TopicMessage("t", b"%d" % number, 0, number > 0)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_what_is_dropped_is_counted(overflow: str, url: str) -> None:
    total = 2_000
    async with (
        aipc.open_publisher(url, queue=10, overflow=overflow) as publisher,
        aipc.open_subscriber(url) as slow,
        aipc.open_subscriber(url, "never") as other,
    ):
        for number in range(total):
            publisher.publish_nowait("t", b"%d" % number)
            if number % 500 == 0:
                await publisher.flush()
        await publisher.flush()
        got: list[TopicMessage] = []
        with anyio.fail_after(20):
            while len(got) + slow.missed < total:
                with anyio.move_on_after(0.01):
                    got.append(await slow.receive())
        numbers = [int(message.data) for message in got]
        assert numbers == sorted(set(numbers))
        assert 10 < len(got) < 100
        for before, message in zip([-1, *numbers], got, strict=False):
            assert message.missed == int(message.data) - before - 1
        if overflow == "drop_oldest":
            assert numbers[-1] == total - 1
        assert other.missed == 0


@pytest.mark.costly
async def test_blocking_loses_nothing_and_waits(url: str) -> None:
    total = 20_000
    async with aipc.open_publisher(url, queue=5, overflow="block") as publisher, aipc.open_subscriber(url) as slow:
        sent = 0

        async def publish() -> None:
            nonlocal sent
            for number in range(total):
                await publisher.publish("t", b"%d" % number)
                sent += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            before = -1
            while before < sent or not sent:
                before = sent
                await anyio.sleep(0.05)
            assert sent < total
            with pytest.raises(anyio.WouldBlock):
                publisher.publish_nowait("t", b"one more")
            assert [int(message.data) for message in await take(slow, total)] == list(range(total))
        assert slow.missed == 0


async def test_a_slow_subscriber_can_be_disconnected(url: str) -> None:
    async with aipc.open_publisher(url, queue=5, overflow="disconnect") as publisher, aipc.open_subscriber(url) as slow:
        for _ in range(10):
            publisher.publish_nowait("t", b"x")
        await until(lambda: publisher.subscribers == 0)
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                while (await slow.receive()) != ("t", b"y", 0, True):
                    pass

            tasks.start_soon(receive)
            with anyio.fail_after(20):
                await publisher.wait_subscribers()
                await publisher.publish("t", b"y")


async def test_a_blocked_publisher_is_let_go_by_the_subscribers_end(url: str) -> None:
    async with aipc.open_publisher(url, queue=5, overflow="block") as publisher, anyio.create_task_group() as tasks:
        slow = await aipc.open_subscriber(url)

        async def publish() -> None:
            for _ in range(100_000):
                await publisher.publish("t", bytes(100))

        tasks.start_soon(publish)
        await until(lambda: publisher.subscribers == 1)
        await slow.aclose()


async def test_bad_requests_end_their_own_connection_only(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with aipc.open_publisher(url) as publisher, aipc.open_subscriber(url) as subscriber:
        for request in (b"", b"\2", b"\1\0", b"\1\0\5abc", b"\1" + b"\0\0" * 1_001, b"\1" + bytes(70_000)):
            async with aipc.open_channel(url) as channel:
                await channel.send(request)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await channel.receive()
        await publisher.publish("t", b"x")
        assert (await take(subscriber, 1))[0].data == b"x"
        assert publisher.subscribers == 1
        assert "no request of a subscriber" in caplog.text


@pytest.mark.parametrize(
    "frame", [b"", b"\2", b"\0" * 8, b"\0" * 10, b"\1" + bytes(8) + b"\0\5abc", b"\1" + b"\0" * 7 + b"\1\0", b"\1" + bytes(10)]
)
async def test_a_bad_publisher_is_a_protocol_error(url: str, frame: bytes) -> None:
    async with aipc.listen(url) as listener:

        async def handler(channel: aipc.Channel) -> None:
            await channel.receive()
            await channel.send_many([b"\0" + bytes(8), frame])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            async with aipc.open_subscriber(url) as subscriber:
                with pytest.raises(aipc.ProtocolError):
                    await take(subscriber, 1)
                assert not subscriber.connected
            tasks.cancel_scope.cancel()


async def test_mistakes_are_named(url: str) -> None:
    with pytest.raises(aipc.AddressError, match="only unix"):
        aipc.open_publisher("udp://127.0.0.1:1")
    with pytest.raises(aipc.AddressError, match="drop_oldest, drop_newest, disconnect, block"):
        aipc.open_publisher(url, overflow="drop")
    for queue in (0, "x"):
        with pytest.raises(aipc.AddressError, match="queue"):
            aipc.open_publisher(f"{url}?queue={queue}")
    with pytest.raises(aipc.AddressError, match="framing"):
        aipc.open_subscriber(f"{url}?framing=lines")
    async with aipc.open_publisher(f"{url}?queue=3&overflow=block&mode=600&max_message_size=100") as publisher:
        with pytest.raises(aipc.MessageTooLarge):
            await publisher.publish("t", bytes(100))
        with pytest.raises(aipc.InvalidMessage):
            await publisher.publish("t" * 70_000, b"")
    with pytest.raises(anyio.ClosedResourceError):
        await publisher.publish("t", b"")
    await publisher.aclose()
    with pytest.raises(aipc.InvalidMessage):
        await aipc.open_subscriber(url, *["x"] * 1_001)


async def test_closing_tells_waiting_tasks(url: str) -> None:
    async with aipc.open_publisher(url), anyio.create_task_group() as tasks:
        subscriber = await aipc.open_subscriber(url)

        async def receive() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await subscriber.receive()

        tasks.start_soon(receive)
        await anyio.sleep(0.01)
        await subscriber.aclose()


async def test_a_forked_child_is_refused(url: str) -> None:
    async with aipc.open_publisher(url) as publisher, aipc.open_subscriber(url) as subscriber:

        def use() -> None:
            with pytest.raises(aipc.ForkedError):
                publisher.publish_nowait("t", b"x")

        in_child(use)
        await publisher.publish("t", b"y")
        assert (await take(subscriber, 1))[0].data == b"y"


async def test_cancelled_receives_lose_nothing(url: str) -> None:
    async with aipc.open_publisher(url) as publisher, aipc.open_subscriber(url) as subscriber:
        for number in range(CANCELLATIONS):
            published = False

            def suspended(at: int, parked: bool, number: int = number) -> None:
                nonlocal published
                if not published:
                    published = True
                    publisher.publish_nowait("t", b"%d" % number)

            moment = (Moment.AWAIT, Moment.READINESS)[number % 2]
            outcome = await inject(subscriber.receive(), number // 2 % 4, moment, suspended)
            if outcome is CANCELLED:
                (outcome,) = await take(subscriber, 1)
            assert outcome == TopicMessage("t", b"%d" % number)


async def test_a_stopped_subscriber_slows_nobody(url: str) -> None:
    code = f"""
import anyio, aipc
async def main():
    async with aipc.open_subscriber({url!r}) as subscriber:
        got = 0
        async for message in subscriber:
            got += 1
            if message.data == b"end":
                print(got + subscriber.missed, subscriber.missed > 0, flush=True)
                break
anyio.run(main)
"""
    async with aipc.open_publisher(url, queue=100) as publisher:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=_ROOT) as process:
            with anyio.fail_after(20):
                await publisher.wait_subscribers(1)
            process.send_signal(signal.SIGSTOP)
            async with aipc.open_subscriber(url) as quick:
                for number in range(5_000):
                    await publisher.publish("t", bytes(500))
                    if number % 50 == 0:
                        assert len(await take(quick, 50 if number else 1)) >= 1
                process.send_signal(signal.SIGCONT)
            await publisher.publish("t", b"end")
            assert process.stdout is not None
            assert await anyio.to_thread.run_sync(process.stdout.readline) == b"5001 True\n"
