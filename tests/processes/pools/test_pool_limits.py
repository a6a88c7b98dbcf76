"""A pool's limits and figures, its spare workers, and workers that never become ready."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.processes.pools.spares import Spares
from aipc.testing.expect import until

from .. import functions
from ..conftest import children
from . import pool_functions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [0, 2])
async def test_only_so_many_wait(limit: int, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with aipc.spawn_pool(1, pool_functions.wait_for_file, str(gate), max_waiting=limit) as pool:
        await pool.wait_ready()
        async with anyio.create_task_group() as tasks:
            for number in range(limit + 1):
                tasks.start_soon(pool.request, b"%d" % number)
                await until(lambda number=number: pool.statistics().busy and pool.statistics().waiting == number)
            with pytest.raises(aipc.PoolBusy, match=f"max_waiting is {limit}"):
                await pool.request(b"one too many")
            with pytest.raises(aipc.PoolBusy):
                await pool.run(pool_functions.pid)
            gate.touch()
        with anyio.fail_after(30):
            assert await pool.request(b"next") == b"next"


@pytest.mark.costly
async def test_statistics(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with aipc.spawn_pool(2, pool_functions.wait_for_file, str(gate)) as pool:
        await pool.wait_ready()
        assert pool.statistics() == aipc.PoolStatistics(2, 0, 0, 0, 0, 0.0, 0.0)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(pool.request, b"x")
            await until(lambda: pool.statistics().waiting == 1)
            assert pool.statistics().busy == 2
            gate.touch()
        pool.workers[0].kill()
        await until(lambda: pool.restarts == 1)
        now = pool.statistics()
        assert (now.busy, now.waiting, now.answered, now.restarts) == (0, 0, 3, 1)
        assert 0 < now.latency <= now.latency_p99


@pytest.mark.costly
async def test_a_spare_takes_the_place_of_a_killed_worker() -> None:
    async with aipc.spawn_pool(1, functions.answer, spares=1) as pool:
        await pool.wait_ready()
        assert len(children()) == 2
        (worker,) = pool.workers
        (spare,) = set(children()) - {worker.pid}
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: worker.returncode is not None)
        with anyio.fail_after(30):
            assert await pool.request(b"x") == b"%d x" % spare
        await until(lambda: len(children()) == 2)
    assert children() == []


@pytest.mark.costly
async def test_a_spare_does_not_begin_its_function(tmp_path: Path) -> None:
    """And one that has died is no use, and harms nobody."""
    mark = tmp_path / "mark"
    async with aipc.spawn_pool(1, functions.end, str(mark), "good", restart="never", spares=1) as pool:
        await pool.wait()
        assert mark.read_text() == "x"
    async with aipc.spawn_pool(1, functions.answer, spares=1) as pool:
        await pool.wait_ready()
        (worker,) = pool.workers
        (spare,) = set(children()) - {worker.pid}
        os.kill(spare, signal.SIGKILL)
        os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: worker.returncode is not None and spare not in children())  # until then the pool may count on it
        with anyio.fail_after(30):
            assert not (await pool.request(b"x")).startswith(b"%d " % spare)
    assert children() == []


@pytest.mark.costly
async def test_renewing_replaces_the_spares() -> None:
    async with aipc.spawn_pool(1, functions.answer, spares=2) as pool:
        await pool.wait_ready()
        old = set(children())
        with anyio.fail_after(60):
            await pool.renew()
        assert len(old) == len(children()) == 3
        assert not old & set(children())


@pytest.mark.costly
async def test_spares_end_with_a_cancelled_pool() -> None:
    with anyio.CancelScope() as scope:
        async with aipc.spawn_pool(1, functions.answer, spares=1) as pool:
            await pool.wait_ready()
            scope.cancel()
            await anyio.sleep_forever()
    assert children() == []


@pytest.mark.parametrize("restart", ["always", "never"])
async def test_a_function_that_cannot_be_imported(restart: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither `wait_ready` nor a request waits for ever, and both say why."""
    argument = pool_functions.NeverImported()
    async with aipc.spawn_pool(1, pool_functions.take, argument, restart=restart, backoff=0.01) as pool:
        for waits in (pool.wait_ready(), pool.request(b"x"), pool.run(pool_functions.pid)):
            with anyio.fail_after(30), pytest.raises(aipc.WorkerDied) as caught:
                await waits
            assert isinstance(caught.value.__cause__, ImportError)
    assert "no module of that name, in a worker" in caplog.text


async def test_ready_means_imported() -> None:
    """A worker that has not even begun to import is not ready."""
    async with aipc.spawn_pool(1, functions.answer) as pool:
        await until(children)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        with anyio.move_on_after(0.05) as scope:
            await pool.wait_ready()
        assert scope.cancelled_caught
        os.kill(pid, signal.SIGCONT)
        with anyio.fail_after(30):
            await pool.wait_ready()


@pytest.mark.costly
async def test_the_workers_error_is_the_requests_cause(caplog: pytest.LogCaptureFixture) -> None:
    async with aipc.spawn_pool(1, functions.answer) as pool:
        with anyio.fail_after(30), pytest.raises(aipc.WorkerDied, match="exit status 1") as caught:
            await pool.request(b"fail as told")
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError)
        assert "fail as told" in str(cause)
        with anyio.fail_after(30):
            assert await pool.request(b"x")
    assert "fail as told" in caplog.text


async def test_wrong_limits_are_refused() -> None:
    for options in ({"spares": -1}, {"max_waiting": -1}):
        with pytest.raises(aipc.AddressError, match="0 or more"):
            async with aipc.spawn_pool(1, functions.answer, **options):
                pass


async def test_no_spare_is_started_after_the_end() -> None:
    """A slot that takes a worker while its pool ends gets one, and none is made for later: nobody would end it."""
    before = children()
    spares = Spares(partial(aipc.spawn, functions.echo), 1, 1.0)
    await spares.aclose()
    async with await spares.take() as worker:
        assert set(children()) - set(before) == {worker.pid}
