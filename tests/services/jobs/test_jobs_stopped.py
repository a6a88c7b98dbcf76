"""A process that is stopped in its turn holds up a queue's requests, but no event loop and no plain call."""

from __future__ import annotations

import fcntl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import JobChannel, JobsStatus
from aipc.testing.expect import until

pytestmark = pytest.mark.anyio


def queue_in(place: Path) -> aipc.Opening[JobChannel]:
    return aipc.open_jobs(f"jobs:{place}/app.jobs", create=True)


@contextmanager
def turn_taken(place: Path) -> Iterator[None]:
    """As a stopped process has it."""
    with (place / "app.jobs-turn").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


OPERATIONS: dict[str, Callable[[JobChannel], Awaitable[object]]] = {
    "send": lambda queue: queue.send(b"2"),
    "receive": lambda queue: queue.receive(),
    "jobs": lambda queue: queue.jobs(),
    "revive": lambda queue: queue.revive(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancelled_request_blocks_no_loop(operation: str, place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send(b"1")
        with turn_taken(place):
            with anyio.move_on_after(0.02) as waiting:
                await OPERATIONS[operation](queue)
            assert waiting.cancelled_caught
        assert queue.stat() == JobsStatus(1, 0, 0, 0)


async def test_the_cancelled_end_of_a_lease_blocks_no_loop(place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send_many([b"1", b"2"])
        lease = queue.lease()
        await lease.__aenter__()
        with turn_taken(place):
            with anyio.move_on_after(0.02) as waiting:
                await lease.__aexit__(None, None, None)
            assert waiting.cancelled_caught
        with anyio.fail_after(10):
            await until(lambda: queue.stat() == JobsStatus(1, 0, 0, 0))


async def test_plain_calls_give_up(place: Path) -> None:
    async with queue_in(place) as queue:
        with turn_taken(place):
            for call in (queue.stat, queue.receive_nowait, lambda: queue.send_nowait(b"1")):
                with pytest.raises(anyio.WouldBlock):
                    call()
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_a_channel_that_closes_meanwhile_removes_what_is_done(place: Path) -> None:
    """Also where another channel of this process keeps the queue open."""
    async with queue_in(place) as other:
        await other.send(b"1")
        queue = await queue_in(place)
        lease = queue.lease()
        await lease.__aenter__()
        async with anyio.create_task_group() as tasks:
            with turn_taken(place):
                tasks.start_soon(lease.__aexit__, None, None, None)
                await until(lambda: bool(queue._requests))
                queue.close()
        assert other.stat() == JobsStatus(0, 0, 0, 0)
