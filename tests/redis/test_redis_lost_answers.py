"""A connection that is lost when the server has leased a job and its answer is on the way: asked again, it gives the same job."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.scripts import _sha

from .peers.groups import wait_until
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio


def lose_the_next_answer(queue: RemoteJobChannel, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the next command to lease one is written, wait until the server has leased it; then end the connection."""
    write = queue._link.write

    def write_and_lose(data: bytes) -> bool:
        assert write(data)
        if _sha("take").encode() not in data:
            return True
        monkeypatch.undo()
        wait_until(lambda: redis.command("XPENDING", queue._queue.keys[0], "aipc").startswith(b"*4\r\n:1\r\n"))
        assert queue._link.connection is not None
        queue._link.connection.close()
        return True

    monkeypatch.setattr(queue._link, "write", write_and_lose)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_lease(cancelled: bool, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled one gives it back, and the attempt does not count."""
    leased: list[tuple[bytes, int]] = []

    async def lease() -> None:
        async with queue.lease() as job:
            leased.append((job.data, job.attempts))

    with anyio.fail_after(15):
        async with aipc.open_channel(redis.url(), max_attempts=1) as opened:
            queue = cast("RemoteJobChannel", opened)
            await queue.send(b"x")
            lose_the_next_answer(queue, redis, monkeypatch)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lease)
                while cancelled and not queue._link.lost_at:
                    await anyio.lowlevel.checkpoint()
                if cancelled:
                    tasks.cancel_scope.cancel()
            assert leased == ([] if cancelled else [(b"x", 1)])
            if cancelled:
                await lease()
            assert leased == [(b"x", 1)]


async def test_a_job_ahead(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(15):
        async with aipc.open_channel(redis.url(), max_attempts=1) as opened:
            queue = cast("RemoteJobChannel", opened)
            await queue.send_many([b"0", b"1"])
            async with queue.lease() as job:
                lose_the_next_answer(queue, redis, monkeypatch)
            async with queue.lease() as job:
                assert (job.data, job.attempts) == (b"1", 1)
            assert queue.stat() == aipc.JobsStatus(0, 0, 0, 0)
