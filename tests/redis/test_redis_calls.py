"""Calls by way of a server: instances share the connections; one that dies breaks its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import anyio
import pytest

import aipc
from aipc import rpc
from aipc._opening.openers import CONNECTIONS, opening
from aipc.testing import CANCELLED, Moment, inject

from .. import subjects
from ..subjects.counts import times
from .peers.servers import RedisServer, shared_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield shared_server()
    shared_server().command("FLUSHALL")


@pytest.fixture(autouse=True)
def _quick_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipc.redis.calls._BEAT", 0.1)


def router() -> rpc.Router:
    made = rpc.Router()

    @made.method
    async def add(a: int, b: int) -> int:
        return a + b

    @made.method
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    return made


@contextmanager
def instance(url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.redis.peers.instance", url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "listens\n"
            yield process
        finally:
            process.kill()


async def test_calls_and_streams(server: RedisServer) -> None:
    url = server.url("service")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, aipc.listen(url) as listener:
            tasks.start_soon(rpc.serve, listener, router())
            async with rpc.connect(url) as client:
                assert await client.call("add", 1, 2) == 3
                async with client.stream("count", 500) as numbers:
                    assert [number async for number in numbers] == list(range(500))
                assert listener.statistics() == aipc.ListenerStatistics(accepted=1, connections=1, failed=0)
            await listener.drain()


async def test_a_client_that_gives_up_before_it_is_accepted(server: RedisServer) -> None:
    url = server.url("service")
    with anyio.fail_after(20):
        async with aipc.listen(url) as listener:
            async with opening(CONNECTIONS, "", url, {}):
                pass
            async with opening(CONNECTIONS, "", url, {}), await listener.accept():
                assert listener.statistics() == aipc.ListenerStatistics(accepted=1, connections=0, failed=1)


async def test_a_client_may_come_before_the_service(server: RedisServer) -> None:
    url = server.url("service")
    with anyio.fail_after(20):
        async with rpc.connect(url) as client, anyio.create_task_group() as tasks:
            answers: list[int] = []

            async def ask() -> None:
                answers.append(await client.call("add", 1, 2))

            tasks.start_soon(ask)
            await anyio.sleep(0.2)
            async with aipc.listen(url) as listener:
                tasks.start_soon(rpc.serve, listener, router())
                while not answers:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
    assert answers == [3]


@pytest.mark.costly
async def test_instances_share_the_connections_and_one_that_dies_breaks_its_own(server: RedisServer) -> None:
    url = server.url("service")
    with anyio.fail_after(40), ExitStack() as stack:
        instances = [stack.enter_context(instance(url)) for _ in range(2)]
        by_pid = {process.pid: process for process in instances}
        seen: set[int] = set()
        while len(seen) < 2:
            async with rpc.connect(url) as client:
                pid = await client.call("pid")
                seen.add(pid)
                if len(seen) == 2:
                    by_pid[pid].kill()
                    before = anyio.current_time()
                    with pytest.raises(rpc.ConnectionLost):
                        await client.call("wait")
                    assert anyio.current_time() - before < 15
        async with rpc.connect(url) as client:
            assert await client.call("pid") in seen - {pid}
    assert os.getpid() not in seen


async def test_connections_survive_lost_connections_to_the_server(server: RedisServer) -> None:
    url = server.url("service")
    with anyio.fail_after(30):
        async with (
            aipc.listen(url) as listener,
            opening(CONNECTIONS, "", url, {}) as ours,
            await listener.accept() as theirs,
            anyio.create_task_group() as tasks,
        ):

            async def send() -> None:
                for number in range(300):
                    await ours.send(b"%d" % number)

            async def cut() -> None:
                for _ in range(10):
                    server.command("CLIENT", "KILL", "TYPE", "normal")
                    server.command("CLIENT", "KILL", "TYPE", "pubsub")
                    await anyio.sleep(0.01)

            tasks.start_soon(send)
            tasks.start_soon(cut)
            assert [await theirs.receive() for _ in range(300)] == [b"%d" % number for number in range(300)]


async def test_a_server_that_lost_its_data_breaks_connections(redis: RedisServer) -> None:
    url = redis.url("service")
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener, opening(CONNECTIONS, "", url, {}) as ours, await listener.accept() as theirs:
            await theirs.send(b"accepted")
            await ours.receive()
            await anyio.sleep(0.3)
            redis.command("FLUSHALL")
            with pytest.raises(anyio.BrokenResourceError):
                await theirs.receive()


@pytest.mark.parametrize("operation", ["receive", "accept"])
async def test_cancelled_at_any_await(server: RedisServer, operation: str) -> None:
    url = server.url("service")
    with anyio.fail_after(times(100, 1_200)):
        async with aipc.listen(url) as listener, opening(CONNECTIONS, "", url, {}) as ours, await listener.accept() as theirs:
            cancelled = number = 0
            while cancelled < subjects.CANCELLATIONS:
                number += 1
                at, moment = number // 2 % 4, (Moment.AWAIT, Moment.READINESS)[number % 2]
                if operation == "receive":
                    await ours.send(b"%d" % number)
                    outcome = await inject(theirs.receive(), at, moment)
                    if outcome is CANCELLED:
                        cancelled += 1
                        outcome = await theirs.receive()
                    assert outcome == b"%d" % number
                else:
                    async with opening(CONNECTIONS, "", url, {}) as client:
                        await client.send(b"hello")
                        accepted = await inject(listener.accept(), at, moment)
                        if accepted is CANCELLED:
                            cancelled += 1
                            with anyio.move_on_after(0.05):  # or it was accepted, and closed
                                accepted = await listener.accept()
                        if accepted is not CANCELLED:
                            assert await accepted.receive() == b"hello"
                            await accepted.aclose()
            print(f"{cancelled} cancelled of {number}")
