"""Workers that break the rules, or die at the worst moment: each ends itself only, and its request is told."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import anyio
import pytest

import aipc
from aipc.testing.expect import until

from ...subjects import times
from ..conftest import children
from . import pool_functions

pytestmark = pytest.mark.anyio


async def cancelled_request(pool: aipc.Pool, data: bytes) -> None:
    """Send a request to the one worker, and give it up before that can answer."""
    (worker,) = pool.workers
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.request, data)
            await left(worker)
            tasks.cancel_scope.cancel()
    finally:
        os.kill(worker.pid, signal.SIGCONT)


async def left(worker: aipc.Worker) -> None:
    """Wait until a message has left for it."""
    before = worker.channel.statistics().messages_sent
    while worker.channel.statistics().messages_sent == before:
        await anyio.lowlevel.checkpoint()


def wait_dead(worker: aipc.Worker) -> None:
    """The loop stands still until then."""
    with suppress(ChildProcessError):  # the loop was quicker, and has waited for it
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("kind", "how"),
    [("stream", "bytes"), ("stream", "no number"), ("seqpacket", "no number"), ("shm", "no number")],
)
async def test_an_answer_that_cannot_be_read_ends_its_worker(kind: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with aipc.spawn_pool(2, pool_functions.misbehave, channel=kind, grace=60.0) as pool:
        await pool.wait_ready()
        before = {worker.pid for worker in pool.workers}
        with anyio.fail_after(30):
            with pytest.raises(aipc.WorkerDied, match="ended, because its answer can't be read"):
                await pool.request(how.encode())
            await pool.wait_ready()
        await until(lambda: pool.restarts == 1 and len(pool.workers) == 2)
        assert len(before & {worker.pid for worker in pool.workers}) == 1
        with anyio.fail_after(30):
            await pool.request(b"who?")
    assert "can't be read" in caplog.text
    assert children() == []


@pytest.mark.costly
@pytest.mark.parametrize("how", ["bytes", "no number"])
async def test_also_when_its_request_was_cancelled(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with aipc.spawn_pool(1, pool_functions.misbehave, grace=60.0) as pool:
        with anyio.fail_after(30):
            pid = await pool.request(b"who?")
            await cancelled_request(pool, how.encode())
            assert await pool.request(b"who?") != pid
        assert pool.restarts == 1
    assert "can't be read" in caplog.text


@pytest.mark.costly
@pytest.mark.parametrize("kind", ["stream", "shm"])
async def test_killed_with_half_of_its_answer_sent(kind: str) -> None:
    async with aipc.spawn_pool(1, pool_functions.misbehave, channel=kind) as pool:
        await pool.request(b"who?")
        (worker,) = pool.workers

        async def ask() -> None:
            with pytest.raises(aipc.WorkerDied):
                await pool.request(b"half")

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await left(worker)
                wait_dead(worker)  # or this process would read the answer as fast as it is written, and have all of it
            assert await pool.request(b"who?")
        assert pool.restarts == 1


async def test_a_channel_closed_after_a_cancelled_request_ends_the_worker() -> None:
    async with aipc.spawn_pool(1, pool_functions.misbehave, grace=0.01) as pool:
        with anyio.fail_after(30):
            pid = await pool.request(b"who?")
            await cancelled_request(pool, b"close")
            assert await pool.request(b"who?") != pid
        assert pool.restarts == 1


@pytest.mark.costly
@pytest.mark.parametrize("kind", ["stream", "seqpacket", "shm"])
async def test_an_answer_counts_though_its_worker_died_at_once(kind: str) -> None:
    """Both are seen in one pass of the loop."""
    async with aipc.spawn_pool(1, pool_functions.misbehave, channel=kind, backoff=0.0) as pool:
        for _ in range(deaths := times(1, 3)):
            await pool.request(b"who?")
            (worker,) = pool.workers

            async def ask() -> None:
                assert await pool.request(b"last words") == b"last words"

            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    await left(worker)
                    wait_dead(worker)
        await until(lambda: pool.restarts == deaths)


async def test_a_request_while_the_pool_is_left_by_an_error() -> None:
    seen: list[str] = []

    async def ask() -> None:
        with pytest.raises((aipc.WorkerDied, anyio.ClosedResourceError)) as caught:
            await pool.request(b"silence")
        seen.append(type(caught.value).__name__)

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(30), suppress(LookupError):
            async with aipc.spawn_pool(1, pool_functions.misbehave) as pool:
                await pool.request(b"who?")
                tasks.start_soon(ask)
                tasks.start_soon(ask)
                await left(pool.workers[0])
                raise LookupError
    assert sorted(seen) == ["ClosedResourceError", "WorkerDied"]
    with anyio.fail_after(30):
        for late in (pool.request(b"late"), pool.renew(), pool.wait_ready()):
            with pytest.raises(anyio.ClosedResourceError, match="the pool is closing"):
                await late
        await pool.wait()
