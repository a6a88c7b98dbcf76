"""What is under way when a block is cancelled, a delay ends, or the loop is over."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import monotonic
from typing import cast

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc import JobsStatus
from aipc._io.loop import backend
from aipc.redis.channel import RemoteJobChannel

from .peers.servers import RedisServer, shared_server


@pytest.fixture
def removals_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where other tasks ask at the same time."""
    monkeypatch.setattr("aipc.redis.links.link.Link.idle", False)


@pytest.mark.usefixtures("removals_are_awaited")
@pytest.mark.anyio
async def test_cancelled_behind_other_commands_the_end_of_a_block_removes_its_job(redis: RedisServer) -> None:
    with anyio.fail_after(20):
        async with aipc.open_channel(redis.url()) as channel, AsyncExitStack() as stack:
            queue = cast(RemoteJobChannel, channel)
            await queue.send(b"0")
            with anyio.CancelScope() as scope:
                async with queue.lease():
                    redis.freeze()
                    stack.callback(redis.thaw)
                    queue._link.tell(queue._queue.stat())  # what follows has to wait for its answer
                    scope.cancel()
            assert scope.cancelled_caught
            redis.thaw()
            await queue._link.flushed()
            assert queue.stat() == JobsStatus(0, 0, 0, 0)


@pytest.mark.anyio
async def test_a_delay_ends_in_time_though_waiters_look_again_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipc.redis.links.wakes._LONGEST_WAIT", 0.2)
    async with aipc.open_channel(shared_server().url("delays")) as queue:
        await queue.send(b"0", delay=0.4)
        began = monotonic()
        assert await queue.receive() == b"0"
        assert monotonic() - began < 0.95  # the look that all waiters share comes after 1 s


@pytest.mark.parametrize("name", backend.NAMES)
def test_closed_when_its_loop_is_over(name: str) -> None:
    async def left_open() -> RemoteJobChannel:
        return cast(RemoteJobChannel, await aipc.open_channel(shared_server().url("over")))

    queue = backend.run(name, left_open)
    queue.close()
    assert queue._link.closed


@pytest.mark.anyio
async def test_a_closed_channel_waits_for_nothing() -> None:
    """A wake-up that still comes for it has to go on to another process."""
    async with aipc.open_channel(shared_server().url("one")) as other:
        async with aipc.open_channel(shared_server().url("another")) as queue:
            await queue.send(b"0")
            await queue.receive()
        assert not cast(RemoteJobChannel, other)._link.wakes._places


@pytest.mark.anyio
async def test_closed_at_once_it_gives_back_what_it_has_though_an_answer_is_missing(redis: RedisServer) -> None:
    with anyio.fail_after(20):
        queue = cast(RemoteJobChannel, await aipc.open_channel(redis.url()))
        await queue.send(b"0")
        lease = queue.lease()
        await lease.__aenter__()
        redis.freeze()
        try:
            queue._link.tell(queue._queue.stat())
            queue.close()
        finally:
            redis.thaw()
        async with aipc.open_channel(redis.url()) as heir, cast(RemoteJobChannel, heir).lease() as job:
            assert (job.data, job.attempts) == (b"0", 1)


@pytest.mark.usefixtures("removals_are_awaited")
@pytest.mark.anyio
async def test_a_plain_call_has_the_job_that_was_on_its_way(redis: RedisServer) -> None:
    with anyio.fail_after(20):
        async with aipc.open_channel(redis.url()) as channel, AsyncExitStack() as stack, anyio.create_task_group() as group:
            queue = cast(RemoteJobChannel, channel)
            await queue.send_many([b"0", b"1"])

            async def work() -> None:
                async with queue.lease():
                    redis.freeze()
                    stack.callback(redis.thaw)

            group.start_soon(work)
            while not queue._consumer._asking:
                await anyio.lowlevel.checkpoint()
            redis.thaw()
            assert queue.receive_nowait() == b"1"
