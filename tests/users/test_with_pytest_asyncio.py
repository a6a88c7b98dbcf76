"""What a user's own tests look like, with pytest-asyncio in strict mode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

import aipc

from ..subjects import new_key


async def echo(channel: aipc.Channel) -> None:
    async for message in channel:
        await channel.send(message)


@pytest_asyncio.fixture
async def echo_server(tmp_path: Path) -> AsyncIterator[str]:
    url = f"unix:{tmp_path}/echo.sock"
    async with aipc.listen(url) as listener:
        server = asyncio.create_task(listener.serve(echo))
        yield url
        server.cancel()
        with suppress(asyncio.CancelledError):
            await server


@pytest.mark.asyncio
async def test_echo(echo_server: str) -> None:
    async with asyncio.timeout(10), aipc.open_channel(echo_server) as channel:
        await channel.send(b"hello")
        assert await channel.receive() == b"hello"


@pytest.mark.asyncio
async def test_echo_for_many_at_once(echo_server: str) -> None:
    async def ask(number: int) -> int:
        async with aipc.open_channel(echo_server) as channel:
            await channel.send(json.dumps(number).encode())
            return int(json.loads(await channel.receive()))

    async with asyncio.timeout(10):
        assert await asyncio.gather(*map(ask, range(50))) == list(range(50))


@pytest.mark.asyncio
async def test_timeout_loses_nothing(echo_server: str) -> None:
    async with asyncio.timeout(10), aipc.open_channel(echo_server) as channel:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await channel.receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.receive(), 0.01)
        await channel.send(b"late")
        assert await channel.receive() == b"late"


@pytest_asyncio.fixture
async def jobs() -> AsyncIterator[aipc.Channel]:
    async with aipc.open_channel(f"sysv-mq:{new_key()}", exclusive=True, unlink=True) as channel:
        yield channel


JOB, RESULT = 1, 2


async def worker(jobs: aipc.Channel) -> None:
    while True:
        job = await jobs.receive(type=JOB)
        await jobs.send(job.upper(), type=RESULT)


@pytest.mark.asyncio
async def test_workers(jobs: aipc.Channel) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        workers = [tasks.create_task(worker(jobs)) for _ in range(3)]
        for word in (b"one", b"two", b"three", b"four"):
            await jobs.send(word, type=JOB)
        results = [await jobs.receive(type=RESULT) for _ in range(4)]
        for task in workers:
            task.cancel()
    assert sorted(results) == [b"FOUR", b"ONE", b"THREE", b"TWO"]


@pytest.mark.asyncio
async def test_counter_behind_a_lock(tmp_path: Path) -> None:
    """Each addition reads, lets the others run, and writes: only the lock keeps them apart."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    async def add(times: int) -> None:
        async with aipc.open_lock(f"flock:{tmp_path}/counter.lock") as lock:
            for _ in range(times):
                async with lock:
                    number = int(counter.read_text())
                    await asyncio.sleep(0)
                    counter.write_text(str(number + 1))

    async with asyncio.timeout(10):
        await asyncio.gather(*(add(10) for _ in range(5)))
    assert counter.read_text() == "50"


@pytest.mark.asyncio
async def test_lock_with_a_timeout(tmp_path: Path) -> None:
    url = f"flock:{tmp_path}/lock"
    async with asyncio.timeout(10), aipc.open_lock(url) as held, aipc.open_lock(url) as lock:
        async with held:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await lock.acquire()
        async with asyncio.timeout(1), lock:
            assert lock.locked()


@pytest.mark.asyncio
async def test_cancelled_task_group(echo_server: str) -> None:
    """An error in one task ends the others, which wait for messages that never come."""

    async def wait() -> None:
        async with aipc.open_channel(echo_server) as channel:
            await channel.receive()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def run() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(wait())
            tasks.create_task(fail())

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert raised.group_contains(ZeroDivisionError)
