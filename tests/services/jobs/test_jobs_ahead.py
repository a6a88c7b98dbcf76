"""The job that comes along when one is removed: for the next lease, or soon for others."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

import aipc
from aipc import JobChannel, JobsStatus
from aipc.testing.expect import until

from ...peers import process, said
from ...subjects import times

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """So long that it is still there when a busy machine comes to look."""
    monkeypatch.setattr("aipc.services.jobs.ahead._KEPT", 60.0)
    return monkeypatch


def queue_in(place: Path, **options: Any) -> aipc.Opening[JobChannel]:
    return aipc.open_jobs(f"jobs:{place}/app.jobs", create=True, **options)


def transactions(queue: JobChannel) -> int:
    """Roughly: what was added to the log, and not yet written back."""
    return queue._worker.files.log // 6


async def do(queue: JobChannel, **selection: Any) -> tuple[bytes, int]:
    async with queue.lease(**selection) as job:
        return job.data, job.attempts


async def test_one_after_the_other_each_takes_one_transaction(place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send_many([b"%d" % number for number in range(20)])
        before = transactions(queue)
        assert [await do(queue) for _ in range(20)] == [(b"%d" % number, 1) for number in range(20)]
        assert transactions(queue) - before <= 22
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_many_tasks(place: Path) -> None:
    """Each job once, in whatever order, and none stays leased."""
    done: list[bytes] = []

    async def work() -> None:
        while len(done) < 200:
            with anyio.move_on_after(5) as waiting:
                async with queue.lease() as job:
                    waiting.deadline = float("inf")
                    done.append(job.data)

    async with queue_in(place) as queue:
        await queue.send_many([b"%d" % number for number in range(210)])
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(work)
        assert len(set(done)) == len(done)
        assert queue.stat() == JobsStatus(210 - len(done), 0, 0, 0)


async def test_it_is_given_back_soon_and_then_not_asked_for(place: Path, kept: pytest.MonkeyPatch) -> None:
    async with queue_in(place) as queue, queue_in(place) as other:
        await queue.send_many([b"0", b"1"])
        kept.setattr("aipc.services.jobs.ahead._KEPT", 0.001)
        await do(queue)
        assert queue._ahead
        with anyio.fail_after(10):
            assert await do(other) == (b"1", 1)  # waits until it is given back
        await queue.send_many([b"2", b"3"])
        assert await do(queue) == (b"2", 1)
        assert not queue._ahead
        assert queue.stat() == JobsStatus(1, 0, 0, 0)


@pytest.mark.parametrize("operation", ["stat", "jobs", "receive", "receive_many", "receive_nowait", "another choice", "close"])
async def test_what_gives_it_back(operation: str, place: Path) -> None:
    """Nothing else sees it, and the order stays."""
    async with queue_in(place) as other, queue_in(place) as queue:
        await queue.send_many([b"0", b"1"])
        await queue.send(b"2", type=2)
        await do(queue)
        assert queue._ahead
        if operation == "stat":
            assert queue.stat() == JobsStatus(2, 0, 0, 0)
        elif operation == "jobs":
            assert [(job.state, job.attempts) for job in await queue.jobs()] == [("ready", 0)] * 2
        elif operation == "receive":
            assert await queue.receive() == b"1"
        elif operation == "receive_many":
            assert await queue.receive_many() == [b"1", b"2"]
        elif operation == "receive_nowait":
            assert queue.receive_nowait() == b"1"
        elif operation == "another choice":
            assert await do(queue, type=2) == (b"2", 1)
        else:
            await queue.aclose()
            assert [await do(other) for _ in range(2)] == [(b"1", 1), (b"2", 1)]
        assert other.stat().leased == 0


@pytest.mark.parametrize(("type_", "options"), [(0, {"priority": 1}), (-9, {"type": 1})])
async def test_a_job_that_the_channel_sends_keeps_its_order(type_: int, options: dict[str, int], place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send_many([b"0", b"1", b"2"], type=5)
        await do(queue, type=type_)
        await queue.send(b"first", **options)
        assert await do(queue, type=type_) == (b"first", 1)
        assert queue._ahead
        await queue.send(b"last", type=6)
        assert queue._ahead
        assert [(await do(queue, type=type_))[0] for _ in range(3)] == [b"1", b"2", b"last"]


async def test_a_loop_that_is_busy_keeps_nothing(place: Path, kept: pytest.MonkeyPatch) -> None:
    async with queue_in(place) as queue, queue_in(place) as other:
        await queue.send_many([b"0", b"1"])
        kept.setattr("aipc.services.jobs.ahead._KEPT", 0.01)
        await do(queue)
        deadline = monotonic() + 10
        while other.stat().leased:
            assert monotonic() < deadline


@pytest.mark.filterwarnings("ignore:.*never closed:ResourceWarning")
@pytest.mark.parametrize("collected", [True, False])
def test_a_loop_that_is_over_keeps_nothing(collected: bool, place: Path, kept: pytest.MonkeyPatch) -> None:
    """Though the process lives, and has the queue open."""
    kept.setattr("aipc.services.jobs.ahead._KEPT", 0.01)

    async def first() -> list[JobChannel]:
        queues = [await queue_in(place), await queue_in(place)]
        await queues[0].send_many([b"0", b"1"])
        await do(queues[0])
        return queues

    async def second() -> None:
        async with queue_in(place) as other:
            with anyio.fail_after(10):
                await until(lambda: other.stat() == JobsStatus(1, 0, 0, 0))
        for queue in queues:
            await queue.aclose()

    queues = anyio.run(first)
    if collected:
        del queues[0]
        gc.collect()
    anyio.run(second)


async def test_a_cancelled_task_does_not_take_it(place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send_many([b"0", b"1"])
        await do(queue)
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with queue.lease():
                pytest.fail("it was cancelled")
        assert queue._ahead
        assert await do(queue) == (b"1", 1)


async def test_a_removal_that_is_cancelled_leaves_nothing_leased(place: Path) -> None:
    """By the thread, while it has the removal, before that, or after: the job is removed all the same."""
    async with queue_in(place) as queue, anyio.create_task_group() as tasks:
        tasks.start_soon(do_of_type_2, queue)  # so that the thread serves all others
        for _ in range(times(50, 1_000)):
            await queue.send_many([b"1", b"2"])
            with anyio.CancelScope() as scope:
                async with queue.lease() as job:
                    assert job.data == b"1"
                    scope.cancel()
            with anyio.fail_after(10):
                assert await do(queue) == (b"2", 1)
            queue._ahead._pause = 0
        with anyio.fail_after(10):
            await until(lambda: queue.stat() == JobsStatus(0, 0, 0, 0))
        tasks.cancel_scope.cancel()


async def do_of_type_2(queue: JobChannel) -> None:
    await do(queue, type=2)


async def test_where_attempts_are_limited_none_comes_along(place: Path) -> None:
    """A process that is killed would have spent an attempt on a job that it never began."""
    async with queue_in(place, max_attempts=3) as queue:
        await queue.send_many([b"0", b"1"])
        await do(queue)
        assert not queue._ahead
        assert await do(queue) == (b"1", 1)


async def test_with_its_process_it_comes_back(place: Path) -> None:
    async with queue_in(place) as queue:
        await queue.send_many([b"0", b"1", b"2"])
        with process(sys.executable, "-c", ONE_JOB, str(place)) as consumer:
            assert said(consumer) == "b'0'"
            consumer.kill()
        with anyio.fail_after(10):
            assert {(await do(queue))[0] for _ in range(2)} == {b"1", b"2"}


ONE_JOB = """
import sys, anyio, aipc
from aipc.services.jobs import ahead
ahead._KEPT = 60.0
async def main():
    async with aipc.open_jobs(f"jobs:{sys.argv[1]}/app.jobs") as queue:
        async with queue.lease() as job:
            pass
        assert queue._ahead
        print(job.data, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


def test_another_loop_takes_it(place: Path) -> None:
    """The loop in which it came is over, and with it the timer."""

    async def first() -> JobChannel:
        queue = await queue_in(place)
        await queue.send_many([b"0", b"1", b"2"])
        await do(queue)
        assert queue._ahead
        return queue

    async def second() -> None:
        async with queue:
            assert await do(queue) == (b"1", 1)

    queue = anyio.run(first)
    anyio.run(second)
