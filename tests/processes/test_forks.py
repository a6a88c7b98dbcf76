"""Workers and pools in a forked child: they refuse to work there, and closing them does nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import aipc
from aipc.testing.expect import in_child, raises

from . import functions
from .pools.ends import KINDS

pytestmark = pytest.mark.anyio


def refused(operation: Callable[[], Awaitable[object]]) -> None:
    """It raises at once: in the child no loop runs that it could wait in."""
    with raises(aipc.ForkedError):
        operation().__await__().send(None)


def done(operation: Callable[[], Awaitable[object]]) -> None:
    with raises(StopIteration):
        operation().__await__().send(None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker(kind: str) -> None:
    async with aipc.spawn(functions.echo, channel=kind) as worker:
        await worker.channel.send(b"1")
        assert await worker.channel.receive() == b"1"

        def use() -> None:
            refused(worker.wait)
            refused(worker.result)
            refused(lambda: worker.channel.send(b"from the child"))
            refused(worker.channel.receive)
            for call in (worker.end_stream, worker.terminate, worker.kill):
                with raises(aipc.ForkedError):
                    call()
            done(worker.aclose)
            done(lambda: worker.__aexit__(LookupError, LookupError(), None))

        in_child(use)
        with anyio.fail_after(30):
            await worker.channel.send(b"2")
            assert await worker.channel.receive() == b"2"
        assert worker.returncode is None
    assert worker.returncode == 0


@pytest.mark.costly
async def test_a_pool() -> None:
    async with aipc.spawn_pool(2, functions.answer) as pool:
        await pool.wait_ready()
        await pool.request(b"x")

        def use() -> None:
            refused(lambda: pool.request(b"from the child"))
            refused(pool.renew)
            refused(pool.wait_ready)
            refused(pool.wait)
            done(pool.close)

        in_child(use)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(pool.request, b"slow %d" % number)
            await pool.renew()
        assert pool.restarts == 0


async def test_a_busy_pool() -> None:
    """Not even those wait who would have to."""
    async with aipc.spawn_pool(1, functions.answer) as pool:
        await pool.request(b"x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.request, b"slow")
            await anyio.lowlevel.checkpoint()
            in_child(lambda: refused(lambda: pool.request(b"from the child")))
