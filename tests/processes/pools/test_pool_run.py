"""Calls of a pool: `await pool.run(function, *args)`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import until

from ...subjects import times
from . import pool_functions
from .ends import KINDS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_results_and_errors(kind: str) -> None:
    async with aipc.spawn_pool(1, channel=kind) as pool:
        with anyio.fail_after(30):
            assert await pool.run(pool_functions.fib, 10) == 55
            assert await pool.run(pool_functions.double_later, 21) == 42
            with pytest.raises(ValueError, match="not that") as caught:
                await pool.run(pool_functions.refuse, "not that")
            assert "in refuse" in str(caught.value.__cause__)
            with pytest.raises(aipc.WorkerFailed, match=r"sys.exit\(3\)"):
                await pool.run(pool_functions.leave)
            with pytest.raises(aipc.MessageTooLarge):
                await pool.run(pool_functions.content, 17 << 20)
            assert await pool.run(pool_functions.fib, 1) == 1
        assert pool.restarts == 0


@pytest.mark.parametrize("way", ["receive", "receive_nowait", "receive_many", "receive_message", "receive_view"])
async def test_beside_a_function_of_its_own(way: str) -> None:
    """Requests and calls do not get each other's answers, and the function does not see the calls."""
    async with aipc.spawn_pool(1, pool_functions.answer_by, way, channel="shm" if way == "receive_view" else "stream") as pool:

        async def call(number: int) -> None:
            assert await pool.run(pool_functions.fib, number) == pool_functions.fib(number)
            assert await pool.request(b"%d" % number) == b"%d" % number

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(call, number)
        assert pool.restarts == 0


async def test_what_cannot_be_pickled_occupies_nobody() -> None:
    async with aipc.spawn_pool(1) as pool:
        with pytest.raises(TypeError, match=r"run\(.*lambda"):
            await pool.run(lambda: 1)
        with pytest.raises(ValueError, match="on_cancel='stop'"):
            await pool.run(pool_functions.pid, on_cancel="stop")
        assert pool.statistics().busy == 0


@pytest.mark.costly
async def test_a_killed_call_says_so() -> None:
    async with aipc.spawn_pool(1) as pool:
        with anyio.fail_after(30):
            with pytest.raises(aipc.WorkerDied, match="killed by SIGKILL"):
                await pool.run(pool_functions.die)
            assert await pool.run(pool_functions.fib, 2) == 1


@pytest.mark.costly
@pytest.mark.parametrize("restart", ["always", "never"])
async def test_cancelled_and_killed(restart: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even a function that never returns; its worker is replaced, and nothing is logged."""
    mark = tmp_path / "mark"
    async with aipc.spawn_pool(1, restart=restart, backoff=3_600, backoff_limit=3_600) as pool:
        for _ in range(kills := times(1, 3)):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: pool.run(pool_functions.block, str(mark), on_cancel="kill"))
                await until(lambda: mark.exists() and mark.read_text())
                tasks.cancel_scope.cancel()
            killed = int(mark.read_text())
            mark.unlink()
            with anyio.fail_after(30):
                assert await pool.run(pool_functions.pid) != killed
        assert pool.restarts == kills
    assert not caplog.records


async def test_cancelled_while_it_waits_kills_nobody(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with aipc.spawn_pool(1, pool_functions.wait_for_file, str(gate)) as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.request, b"first")
            await until(lambda: pool.statistics().busy)
            with anyio.move_on_after(0.01):
                await pool.request(b"second", on_cancel="kill")
            gate.touch()
        assert pool.restarts == 0


@pytest.mark.costly
def test_functions_of_the_main_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import anyio
        import aipc

        def triple(number):
            return 3 * number

        async def main():
            async with aipc.spawn_pool(1) as pool:
                print(await pool.run(triple, 14))

        if __name__ == "__main__":
            anyio.run(main)
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, check=True, timeout=60, env={**os.environ})
    assert done.stdout == b"42\n"
