"""Renewing a pool: at once, in vain, cancelled, while it is left."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle, until

from .. import functions
from ..conftest import children
from . import pool_functions

pytestmark = pytest.mark.anyio


def pids(pool: aipc.Pool) -> set[int]:
    return {worker.pid for worker in pool.workers}


@pytest.mark.costly
async def test_several_at_once() -> None:
    with anyio.fail_after(60):
        async with aipc.spawn_pool(1, functions.answer, grace=60.0) as pool:
            await pool.wait_ready()
            old = pids(pool)
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(pool.renew)
            assert len(pids(pool)) == 1
            assert set(children()) == pids(pool)
            assert not old & pids(pool)
            await pool.request(b"x")
            assert pool.restarts == 0
    assert children() == []


class Doorkeeper:
    """A welcome that lets the first workers in, and the others when it is told to, or never."""

    def __init__(self, first: int) -> None:
        self._left = first
        self.reached = 0
        self.opened = anyio.Event()

    async def welcome(self, worker: aipc.Worker) -> None:
        if self._left:
            self._left -= 1
            return
        self.reached += 1
        await self.opened.wait()


@pytest.mark.costly
async def test_cancelled_before_the_new_ones_are_there() -> None:
    keeper = Doorkeeper(1)
    async with aipc.spawn_pool(1, functions.answer, welcome=keeper.welcome) as pool:
        await pool.wait_ready()
        old = pids(pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.renew)
            await until(lambda: keeper.reached == 1)
            tasks.cancel_scope.cancel()
        await until(lambda: set(children()) == old)
        assert pids(pool) == old
        keeper.opened.set()
        with anyio.fail_after(30):
            await pool.renew()
        assert len(pids(pool)) == 1
        assert set(children()) == pids(pool)
        assert not pids(pool) & old


@pytest.mark.costly
async def test_cancelled_while_the_old_ones_finish(tmp_path: Path) -> None:
    answers: list[bytes] = []
    gate = tmp_path / "gate"

    async def ask() -> None:
        answers.append(await pool.request(b"held up"))

    async with aipc.spawn_pool(1, pool_functions.wait_for_file, str(gate), grace=60.0) as pool:
        await pool.wait_ready()
        old = pids(pool)
        async with anyio.create_task_group() as asking:
            asking.start_soon(ask)
            await settle()
            async with anyio.create_task_group() as renewing:
                renewing.start_soon(pool.renew)
                await until(lambda: pids(pool) and not pids(pool) & old)
                renewing.cancel_scope.cancel()
            assert old < set(children())
            gate.touch()
        assert answers == [b"held up"]
        await until(lambda: set(children()) == pids(pool))


@pytest.mark.costly
@pytest.mark.parametrize("how", ["at its end", "by an error", "cancelled"])
async def test_while_the_pool_is_left(how: str) -> None:
    keeper = Doorkeeper(1)
    seen: list[str] = []

    async def expect_closed() -> None:
        with pytest.raises(anyio.ClosedResourceError, match="closing"):
            await pool.renew()
        seen.append("closed")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope, pytest.raises(LookupError) if how == "by an error" else anyio.CancelScope():
                async with aipc.spawn_pool(1, functions.answer, welcome=keeper.welcome, grace=60.0) as pool:
                    await pool.request(b"x")
                    tasks.start_soon(expect_closed)
                    tasks.start_soon(expect_closed)
                    await until(lambda: keeper.reached)
                    if how == "by an error":
                        raise LookupError
                    if how == "cancelled":
                        scope.cancel()
                        await anyio.sleep_forever()
    assert seen == ["closed", "closed"]
    assert children() == []


@pytest.mark.costly
async def test_in_vain_it_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    refuse = False

    async def welcome(worker: aipc.Worker) -> None:
        if refuse:
            raise LookupError("not today")

    async with aipc.spawn_pool(1, functions.answer, welcome=welcome, restart="never") as pool:
        await pool.wait_ready()
        old = pids(pool)
        refuse = True
        with anyio.fail_after(30), pytest.raises(aipc.WorkerDied, match="none will be started in its place"):
            await pool.renew()
        assert pids(pool) == old
        await until(lambda: set(children()) == old)
        refuse = False
        with anyio.fail_after(30):
            await pool.renew()
            await pool.request(b"x")
        assert len(pids(pool)) == 1
        assert set(children()) == pids(pool)
    assert "not today" in caplog.text


@pytest.mark.costly
async def test_renewed_while_one_waits_to_be_replaced(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with aipc.spawn_pool(1, functions.end, str(mark), "bad", backoff=3_600, backoff_limit=3_600) as pool:
        await until(lambda: pool.restarts == 1 and not pool.workers)
        with anyio.fail_after(30):
            await pool.renew()
        assert len(mark.read_text()) >= 2


@pytest.mark.costly
async def test_ready_is_not_waited_for_in_vain() -> None:
    async with aipc.spawn_pool(2, functions.answer, restart="never") as pool:
        await pool.wait_ready()
        pool.workers[0].kill()
        await until(lambda: len(pool.workers) == 1)
        with anyio.fail_after(30), pytest.raises(aipc.WorkerDied, match="none will be started in its place"):
            await pool.wait_ready()


async def test_leaving_tells_those_who_wait_at_once(tmp_path: Path) -> None:
    """And not when the others have finished."""
    gate = tmp_path / "gate"
    seen: list[str] = []

    async def ask() -> None:
        try:
            seen.append((await pool.request(b"answered")).decode())
        except anyio.ClosedResourceError:
            seen.append("refused")
            gate.touch()

    with anyio.fail_after(30):
        async with (
            anyio.create_task_group() as tasks,
            aipc.spawn_pool(1, pool_functions.wait_for_file, str(gate), grace=60.0) as pool,
        ):
            await pool.wait_ready()
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await settle()
    assert seen == ["refused", "answered"]


async def test_a_welcome_that_never_ends_is_left() -> None:
    keeper = Doorkeeper(0)
    with anyio.fail_after(30):
        async with aipc.spawn_pool(1, functions.answer, welcome=keeper.welcome, grace=60.0):
            await until(lambda: keeper.reached == 1)
    assert children() == []
