"""Job queues: leases, order, types, delays, attempts, limits."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc import Job, JobChannel, JobsStatus
from aipc.testing.expect import in_child, settle, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(place: Path) -> str:
    return f"jobs:{place}/app.jobs"


async def opened(url: str, **options: Any) -> JobChannel:
    return await aipc.open_jobs(url, create=True, **options)


async def fail(queue: JobChannel, **selection: bool) -> Job:
    """Lease a job, and fail."""
    with suppress(LookupError):
        async with queue.lease(**selection) as job:
            raise LookupError
    return job


async def test_a_lease_that_ends_well_removes_its_job(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"one", type=3, priority=2)
        async with queue.lease() as job:
            assert (job.data, job.type, job.priority, job.attempts) == (b"one", 3, 2, 1)
            assert queue.stat() == JobsStatus(ready=0, leased=1, delayed=0, dead=0)
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_an_error_gives_the_job_back(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"one")
        first = await fail(queue)
        async with queue.lease() as second:
            assert (second.id, second.attempts) == (first.id, 2)


async def test_a_cancelled_block_gives_the_job_back(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"one")
        with anyio.CancelScope() as scope:
            async with queue.lease():
                scope.cancel()
                await anyio.sleep_forever()
        assert queue.stat().ready == 1


async def test_closing_gives_jobs_back_and_the_block_learns_of_it(url: str) -> None:
    async with await opened(url) as other:
        queue = await opened(url)
        await queue.send(b"one")
        with pytest.raises(anyio.ClosedResourceError):
            async with queue.lease():
                await queue.aclose()
        assert other.stat() == JobsStatus(1, 0, 0, 0)


async def test_a_late_end_removes_nobody_elses_job(url: str) -> None:
    async with await opened(url) as queue, await opened(url) as other:
        await queue.send(b"one")
        lease = queue.lease()
        job = await lease.__aenter__()
        queue._give_back(job)
        async with other.lease() as again:
            assert again.id == job.id
            with pytest.raises(aipc.LeaseLost):
                await lease.__aexit__(None, None, None)
        assert queue.stat() == JobsStatus(0, 0, 0, 0)


async def test_jobs_come_by_priority_then_age(url: str) -> None:
    async with await opened(url) as queue:
        for priority in (0, 5, -3, 5, 0):
            await queue.send(b"%d" % priority, priority=priority)
        messages = [await queue.receive_message() for _ in range(5)]
        assert [message.priority for message in messages] == [5, 5, 0, 0, -3]


async def test_jobs_are_selected_by_type(url: str) -> None:
    async with await opened(url) as queue:
        for kind in (4, 2, 3, 2):
            await queue.send(b"%d" % kind, type=kind)
        assert await queue.receive(type=3) == b"3"
        assert [await queue.receive(type=-3), await queue.receive(type=-3)] == [b"2", b"2"]
        with pytest.raises(anyio.WouldBlock):
            queue.receive_nowait(type=-3)
        assert await queue.receive(type=0) == b"4"


async def test_a_waiter_of_another_type_does_not_hold_up_others(url: str) -> None:
    got: list[bytes] = []
    async with await opened(url) as queue, anyio.create_task_group() as tasks:

        async def receive(kind: int) -> None:
            got.append(await queue.receive(type=kind))

        for kind in (1, 2):
            tasks.start_soon(receive, kind)
            await settle()
        await queue.send(b"2", type=2)
        await until(lambda: got)
        await queue.send(b"1", type=1)
    assert got == [b"2", b"1"]


async def test_a_delayed_job_waits(url: str) -> None:
    async with await opened(url) as queue:
        before = anyio.current_time()
        await queue.send(b"later", delay=0.2)
        assert queue.stat() == JobsStatus(0, 0, 1, 0)
        with pytest.raises(anyio.WouldBlock):
            queue.receive_nowait()
        assert await queue.receive() == b"later"
        assert 0.19 <= anyio.current_time() - before < 5


async def test_a_job_that_failed_too_often_is_dead_until_it_is_revived(url: str) -> None:
    async with await opened(url, max_attempts=2) as queue:
        await queue.send(b"bad")
        for _ in range(2):
            await fail(queue)
        assert queue.stat() == JobsStatus(0, 0, 0, 1)
        assert (await fail(queue, dead=True)).attempts == 3
        assert await queue.revive() == 1
        async with queue.lease() as job:
            assert job.attempts == 1


async def test_a_full_queue_makes_senders_wait_and_dead_jobs_take_no_room(url: str) -> None:
    async with await opened(url, max_messages=2, max_attempts=1) as queue:
        await queue.send_many([b"1", b"2"])
        with pytest.raises(anyio.WouldBlock):
            queue.send_nowait(b"3")
        await fail(queue)
        await queue.send(b"3")
        async with queue.lease(), anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.05):
                await queue.send(b"4")
            tasks.cancel_scope.cancel()
        assert await queue.revive() == 1
        assert await queue.receive_many() == [b"1", b"3"]


async def test_limits_stay_with_the_file(url: str) -> None:
    async with await opened(url, max_messages=1):
        pass
    async with await opened(url) as queue:
        await queue.send(b"1")
        with pytest.raises(anyio.WouldBlock):
            queue.send_nowait(b"2")


async def test_jobs_outlive_everybody_and_ids_are_never_used_twice(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send_many([b"1", b"2"])
        async with queue.lease() as first:
            pass
        assert await queue.receive() == b"2"
    async with await opened(url) as queue:
        await queue.send(b"3")
        async with queue.lease() as third:
            assert third.id > first.id + 1


async def test_the_files_have_their_mode_and_go_with_unlink(url: str, place: Path) -> None:
    async with await opened(url, mode=0o640, unlink=True) as queue:
        await queue.send(b"1")
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == dict.fromkeys(
            ("app.jobs", "app.jobs-wal", "app.jobs-shm", "app.jobs-turn"), 0o640
        )
    assert list(place.iterdir()) == []


async def test_a_removed_queue_is_an_error_for_who_has_it(url: str) -> None:
    async with await opened(url) as queue, anyio.create_task_group() as tasks:

        async def receive() -> None:
            with pytest.raises(aipc.ObjectRemoved):
                await queue.receive()

        tasks.start_soon(receive)
        await settle()
        for end in ("", "-wal", "-shm", "-turn"):
            os.unlink(url.removeprefix("jobs:") + end)
        with pytest.raises(aipc.ObjectRemoved):
            await queue.send(b"1")


async def test_what_is_no_queue_is_refused(url: str, place: Path) -> None:
    with pytest.raises(aipc.ObjectMissing):
        await aipc.open_channel(url)
    path = place / "app.jobs"
    path.write_bytes(b"no database" * 500)
    with pytest.raises(aipc.WrongObject, match=r"app\.jobs"):
        await aipc.open_channel(url)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(aipc.WrongObject, match="another program's"):
        await aipc.open_channel(url, create=True)
    with pytest.raises(aipc.ObjectExists):
        await aipc.open_channel(url, exclusive=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(aipc.WrongObject):
        await aipc.open_channel(url)
    with pytest.raises(aipc.AddressError):
        await aipc.open_channel("jobs:")


@pytest.mark.parametrize(
    "meta", [{"type": 0}, {"delay": -1}, {"delay": float("nan")}, {"priority": 1 << 70}, {"type": 1 << 70}]
)
async def test_bad_options_of_a_job(url: str, meta: dict[str, float]) -> None:
    async with await opened(url) as queue:
        with pytest.raises(aipc.InvalidMessage, match="must be"):
            await queue.send(b"", **meta)
        with pytest.raises(aipc.InvalidMessage):
            await queue.receive(type=1 << 70)


async def test_a_file_that_another_program_damages_fails_the_request_only(url: str) -> None:
    """A statement that fails is the error of the request that made it, and the thread lives on."""
    async with await opened(url) as queue:
        other = sqlite3.connect(url.removeprefix("jobs:"))
        other.execute("CREATE TRIGGER no AFTER INSERT ON jobs WHEN new.type = 7 BEGIN SELECT RAISE(ABORT, 'no sevens'); END")
        other.close()
        async with anyio.create_task_group() as tasks:

            async def refused() -> None:
                with pytest.raises(OSError, match="no sevens"):
                    await queue.send(b"7", type=7)

            for _ in range(3):
                tasks.start_soon(refused)
                tasks.start_soon(queue.send, b"1")
        assert queue.stat().ready == 3


async def test_a_removal_that_fails_gives_the_job_back(url: str) -> None:
    """Also while another channel of this process has the queue open."""
    async with await opened(url) as queue, await opened(url) as other:
        await queue.send(b"1")
        with sqlite3.connect(url.removeprefix("jobs:")) as damage:
            damage.execute("CREATE TRIGGER no BEFORE DELETE ON jobs BEGIN SELECT RAISE(ABORT, 'no end'); END")
        with pytest.raises(OSError, match="no end"):
            async with queue.lease():
                pass
        damage.execute("DROP TRIGGER no")
        damage.close()
        with anyio.fail_after(10):
            async with other.lease() as job:
                assert (job.data, job.attempts) == (b"1", 2)


async def test_another_programs_transaction_makes_requests_wait(url: str) -> None:
    async with await opened(url) as queue, anyio.create_task_group() as tasks:
        other = sqlite3.connect(url.removeprefix("jobs:"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        tasks.start_soon(queue.send, b"1")
        with anyio.move_on_after(0.05):
            await queue.receive()
        with pytest.raises(anyio.WouldBlock):
            queue.send_nowait(b"2")
        other.execute("COMMIT")
        other.close()
        with anyio.fail_after(10):
            assert await queue.receive() == b"1"


async def test_without_descriptors_nothing_stays_open(url: str) -> None:
    async with await opened(url):
        pass
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    for more in range(1, 6):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, limits[1]))
        try:
            with suppress(OSError):
                await (await opened(url)).aclose()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    async with await opened(url) as queue:
        await queue.send(b"1")


async def test_a_forked_child_opens_the_queue_anew(url: str) -> None:
    async with await opened(url) as queue:
        await queue.send(b"1")

        async def use() -> None:
            with pytest.raises(aipc.ForkedError):
                queue.stat()
            async with await opened(url) as own:
                await own.send(b"2")

        def run() -> None:  # in a thread: a loop runs already in this one
            thread = threading.Thread(target=anyio.run, args=(use,))
            thread.start()
            thread.join()

        for _ in range(5):
            in_child(run)
        assert queue.stat().ready == 6


async def test_a_queue_that_is_dropped_warns(url: str) -> None:
    queue = await opened(url)
    worker = queue._worker
    with pytest.warns(ResourceWarning, match="never closed"):
        del queue
    await worker.wait_ended()


async def test_durable_syncs(url: str) -> None:
    async with await opened(url, durable=True) as queue:
        await queue.send_many([b"1", b"2"])
        assert await queue.receive_many() == [b"1", b"2"]
        assert queue._worker.database is not None
        assert queue._worker.database.synchronous == "FULL"
