"""How a user tests a ticker and a worker: in one process, on a socket and a file of the test's own."""

import asyncio
from pathlib import Path

import pytest
from job_service import work
from ticker import tick, watch

import aipc

pytestmark = pytest.mark.asyncio


async def test_each_price_comes_or_is_counted(tmp_path: Path) -> None:
    url = f"unix:{tmp_path}/ticker"
    async with aipc.open_publisher(url, overflow="block") as publisher, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(url, "gbp.*"))
        await publisher.wait_subscribers()
        await tick(publisher, 300)
    assert watching.result() == (100, 0)


async def test_a_worker_that_is_stopped_leaves_its_job(tmp_path: Path) -> None:
    async with aipc.open_jobs(f"jobs:{tmp_path}/queue", create=True) as queue:
        await queue.send_many([b"job"] * 1_000)
        worker = asyncio.create_task(work(queue))
        while queue.stat().ready > 990:
            await asyncio.sleep(0)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        status = queue.stat()
        assert status.leased == 0
        assert 0 < status.ready < 1_000
