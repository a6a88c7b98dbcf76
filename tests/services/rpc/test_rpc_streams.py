"""Streams: in order, with back-pressure, ended by either side."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc import rpc

from .calling import Service, calling

pytestmark = pytest.mark.anyio

CODECS = ("msgpack", "json")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mechanism", ["unix", "shm-64-KiB", "tcp"])
async def test_items_come_in_order(mechanism: str, codec: str, place: Path) -> None:
    async with calling(Service(), codec, mechanism, place) as client:
        async with client.stream("count", 500, returns=int) as numbers:
            assert [number async for number in numbers] == list(range(500))
        async with client.stream("count", to=0) as numbers:
            assert [number async for number in numbers] == []
        async with client.stream("count", 40) as first, client.stream("count", 40) as second:
            for number in range(40):
                assert await anext(first) == await anext(second) == number


async def test_a_slow_reader_stops_the_method_and_nothing_else() -> None:
    service = Service()
    async with calling(service) as client, client.stream("endless") as numbers:
        for number in range(100):
            assert await anext(numbers) == number
            assert await client.call("add", 1, 2) == 3
        before = service.most
        for _ in range(50):
            await client.call("add", 1, 2)
        assert service.most == before < 100 + 64


async def test_leaving_cancels_the_method() -> None:
    service = Service()
    async with calling(service) as client:
        async with client.stream("endless") as numbers:
            assert await anext(numbers) == 0
        await service.until(lambda: service.ended == 1)
        assert await client.call("add", 1, 2) == 3
        with pytest.raises(RuntimeError, match="open it first"):
            await anext(client.stream("endless"))
        async with client.stream("count", 1) as numbers:
            with pytest.raises(RuntimeError, match="it was open already"):
                await numbers.__aenter__()


async def test_what_came_before_an_error_is_not_lost() -> None:
    async with calling(Service()) as client, client.stream("broken_stream") as items:
        assert await anext(items) == 1
        with pytest.raises(rpc.RemoteError, match="no more"):
            await anext(items)
        with pytest.raises(rpc.RemoteError, match="no more"):
            await anext(items)


async def test_errors_of_streams() -> None:
    async with calling(Service()) as client:
        async with client.stream("nothing") as items:
            with pytest.raises(rpc.MethodMissing):
                await anext(items)
        async with client.stream("count", "x") as items:
            with pytest.raises(rpc.InvalidParameters):
                await anext(items)
        async with client.stream("count", 3, returns=str) as items:
            with pytest.raises(aipc.ProtocolError, match="an item is not of the type"):
                await anext(items)
        async with client.stream("add", 1, 2) as items:
            with pytest.raises(aipc.ProtocolError, match="the answer is no list"):
                await anext(items)


async def test_a_list_can_be_read_as_a_stream_and_a_stream_be_called() -> None:
    async with calling(Service()) as client:
        assert await client.call("count", 3) == [0, 1, 2]
        async with client.stream("echo", [1, 2]) as items:
            assert [item async for item in items] == [1, 2]
        with pytest.raises(rpc.RemoteError, match="more than 10,000 items: call it as a stream"):
            await client.call("endless")


async def test_cancelled_reading_takes_nothing() -> None:
    service = Service()
    gate = anyio.Event()

    @service.router.method
    async def gated() -> AsyncIterator[int]:
        yield 1
        await gate.wait()
        yield 2

    async with calling(service) as client, client.stream("gated") as items:
        assert await anext(items) == 1
        for _ in range(5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anext(items)
            assert scope.cancelled_caught
        gate.set()
        assert await anext(items) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_a_long_stream_keeps_memory_flat() -> None:
    async with calling(Service()) as client, client.stream("endless") as numbers:
        for _ in range(500):
            await anext(numbers)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(5_000):
                await anext(numbers)
            assert tracemalloc.get_traced_memory()[0] - before < 200_000
        finally:
            tracemalloc.stop()
