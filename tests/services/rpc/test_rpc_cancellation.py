"""Calls cancelled at every await, connections cut at every moment: each answer goes to its own call, once, or there is an error."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc import rpc
from aipc.testing import CANCELLED, Moment, inject

from ...peers import python, said
from ...subjects.counts import times
from .calling import Service, calling, listening

pytestmark = pytest.mark.anyio

TIMES = times(400, 10_000)
CUTS = times(40, 1_000)
MOMENTS = (Moment.AWAIT, Moment.READINESS)


@pytest.mark.parametrize("mechanism", ["unix", "shm-64-KiB"])
async def test_calls_cancelled_at_any_await(mechanism: str, place: Path) -> None:
    """An answer is never that of another call, and the connection goes on."""
    service = Service()
    async with calling(service, "msgpack", mechanism, place, max_in_flight=5) as client:
        cancelled = 0
        for attempt in range(TIMES):
            outcome = await inject(client.call("echo", attempt), attempt // 2 % 3, MOMENTS[attempt % 2])
            if outcome is CANCELLED:
                cancelled += 1
            else:
                assert outcome == attempt
            if attempt % 7 == 0:
                assert await client.call("echo", -attempt) == -attempt
        assert cancelled > TIMES / 5
        await client.call("add", 1, 2)
        assert client._calls.unanswered == 0


async def test_long_calls_cancelled_while_they_are_sent(place: Path) -> None:
    """Sent wholly or not at all: what is not sent keeps no place at the service."""
    service = Service()
    data = b"x" * 400_000
    async with calling(service, "msgpack", "unix", place, max_in_flight=3) as client:
        for attempt in range(TIMES // 4):
            outcome = await inject(client.call("echo", data + b"%d" % attempt), attempt % 9, MOMENTS[attempt % 2])
            assert outcome is CANCELLED or outcome == data + b"%d" % attempt
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(client.call, "add", 1, 2)
        assert client._calls._abandoned == set()


async def test_many_calls_at_once_some_cancelled(place: Path) -> None:
    service = Service()
    chance = random.Random(1)
    right = 0

    async def use(number: int) -> None:
        nonlocal right
        for other in range(TIMES // 30):
            value = [number, other]
            with anyio.move_on_after(chance.choice([0, 0.0005, 0.002, 5])):
                assert await client.call("echo", value) == value
                right += 1

    async with calling(service, "msgpack", "unix", place, max_in_flight=10) as client:
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(use, number)
        assert right > TIMES / 8
        await client.call("add", 1, 2)
        assert (client._calls.unanswered, client._calls._abandoned) == (0, set())


async def test_streams_cancelled_at_any_await() -> None:
    service = Service()

    async def read(count: int) -> list[int]:
        async with client.stream("count", count) as numbers:
            return [number async for number in numbers]

    async with calling(service, max_in_flight=3) as client:
        for attempt in range(TIMES // 2):
            count = attempt % 90
            outcome = await inject(read(count), attempt % 11, MOMENTS[attempt % 2])
            assert outcome is CANCELLED or outcome == list(range(count))
        assert await client.call("add", 1, 2) == 3
        assert (client._calls.unanswered, client._calls._abandoned) == (0, set())


async def test_methods_cancelled_at_any_await() -> None:
    """However many awaits a method has made when its caller gives up, it is answered once."""
    service = Service()

    @service.router.method
    async def steps(count: int) -> int:
        service.started += 1
        try:
            for _ in range(count):
                await anyio.lowlevel.checkpoint()
            return count
        finally:
            service.ended += 1

    async with calling(service, max_in_flight=4) as client:
        for attempt in range(TIMES):
            outcome = await inject(client.call("steps", attempt % 13), attempt % 4, MOMENTS[attempt % 2])
            assert outcome is CANCELLED or outcome == attempt % 13
        await client.call("add", 1, 2)
        assert service.started == service.ended


async def test_notifications_cancelled_are_sent_or_not() -> None:
    service = Service()
    async with calling(service) as client:
        sent = []
        for attempt in range(TIMES):
            text = str(attempt)
            outcome = await inject(client.notify("log", text), attempt % 3)
            if outcome is not CANCELLED:
                sent.append(text)
        await client.call("add", 1, 2)
        await service.until(lambda: set(sent) <= set(service.logged))
        assert len(service.logged) == len(set(service.logged))


async def test_connections_cut_at_any_moment(place: Path) -> None:
    """Every call ends: by its own answer, or by an error."""
    chance = random.Random(2)
    service = Service()
    url = f"unix:{place}/socket"
    ends = {"answer": 0, "error": 0}

    async def use(client: rpc.Client, number: int) -> None:
        for other in range(1_000):
            try:
                assert await client.call("echo", [number, other]) == [number, other]
                ends["answer"] += 1
            except (rpc.ConnectionLost, anyio.ClosedResourceError):
                ends["error"] += 1
                return

    async with listening(service, url):
        for _ in range(CUTS):
            async with rpc.connect(url) as client, anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(use, client, number)
                for _ in range(chance.randrange(1, 40)):
                    await anyio.lowlevel.checkpoint()
                await client.channel.aclose()
    assert ends["error"] == 8 * CUTS
    assert ends["answer"] > 0
    assert not service.running


SERVER = """
import sys
import anyio, aipc
from aipc import rpc

router = rpc.Router()

@router.method
async def echo(data: object) -> object:
    return data

async def main():
    async with aipc.listen(sys.argv[1]) as listener:
        print("up", flush=True)
        await rpc.serve(listener, router)

anyio.run(main)
"""


@pytest.mark.parametrize("scheme", ["unix", "shm"])
async def test_killed_servers(scheme: str, place: Path) -> None:
    url = f"{scheme}:{place}/socket"
    ends: list[object] = []

    async def use(client: rpc.Client, number: int) -> None:
        try:
            for other in range(100_000):
                assert await client.call("echo", [number, other]) == [number, other]
        except rpc.ConnectionLost as error:
            ends.append(error)

    with anyio.fail_after(times(60, 1_200)), python(SERVER, url) as process:
        assert said(process) == "up"
        async with rpc.connect(url) as client, anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(use, client, number)
            while client.channel.statistics().messages_received < 1_000:
                await anyio.lowlevel.checkpoint()
            process.kill()
    assert len(ends) == 10


async def test_a_service_that_is_cancelled_ends_its_methods() -> None:
    service = Service()
    ours, theirs = aipc.channel_pair()
    async with rpc.connect(ours) as client:

        async def call() -> None:
            with pytest.raises(rpc.ConnectionLost):
                await client.call("wait")

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def serve() -> None:
                with scope:
                    await rpc.serve_channel(theirs, service.router)

            tasks.start_soon(serve)
            tasks.start_soon(call)
            await service.until(lambda: len(service.running) == 1)
            scope.cancel()
        assert not service.running


async def slow_cleanup() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        cleaned.append(1)


cleaned: list[int] = []


async def test_streams_clean_up() -> None:
    service = Service()
    service.router.add(slow_cleanup)
    cleaned.clear()
    async with calling(service) as client:
        for _ in range(20):
            async with client.stream("slow_cleanup") as items:
                assert await anext(items) == 1
        await client.call("add", 1, 2)
        while len(cleaned) < 20:
            await anyio.lowlevel.checkpoint()
