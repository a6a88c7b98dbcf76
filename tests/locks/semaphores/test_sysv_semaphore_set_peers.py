"""System V semaphore sets between processes: C is the other one. Undo, and what semctl(2) and the tools tell."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, run, said, tell

pytestmark = pytest.mark.anyio

Row = aipc.SysVSemaphoreSet


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("sysv_semaphore", tmp_path_factory))


def fresh(key: str, *values: int, **options: Any) -> Row:
    """A new set, which goes when it is closed."""
    return Row(key, exclusive=True, unlink=True, values=values or (0, 0, 0), **options)


async def test_with_c(c_peer: str, key: str) -> None:
    """Each waits for what the other does; the kernel tells who waits and who was last."""
    with anyio.fail_after(10):
        async with fresh(key, 0, 0, 2) as row:
            assert row.pids == [os.getpid()] * 3
            with process(c_peer, "keep", key, "0:-1", "1:-2") as peer:
                while row.waiting(0) != (1, 0):
                    await settle()
                await row.operate([(0, 1), (1, 3)])
                assert said(peer) == "done"
                assert row.values == [0, 1, 2]
                assert row.pids == [peer.pid, peer.pid, os.getpid()]
            with process(c_peer, "keep", key, "2:0") as peer:
                while row.waiting(2) != (0, 1):
                    await settle()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(row.operate, [(0, -4)])
                    await row.operate([(2, -2)])
                    assert said(peer) == "done"
                    with process(c_peer, "keep", key, "0:4") as other:
                        assert said(other) == "done"
                assert row.values == [0, 1, 0]
            with pytest.raises(aipc.AddressError):
                row.waiting(3)


async def test_killed_holders(c_peer: str, key: str) -> None:
    """What a C program took with SEM_UNDO is back when it is killed, and a waiting task has it, a hundred times."""
    with anyio.fail_after(60):
        async with fresh(key, 1, 2) as row, anyio.create_task_group() as tasks:
            for _ in range(100):
                with process(c_peer, "undo", key, "0:-1", "1:-2") as holder:
                    assert said(holder) == "done"
                    with pytest.raises(anyio.WouldBlock):
                        row.operate_nowait([(1, -1)])
                    tasks.start_soon(anyio.to_thread.run_sync, holder.kill)
                    await row.operate([(0, -1), (1, -1)])
                row.operate_nowait([(0, 1), (1, 1)])
            assert row.values == [1, 2]


OURS = """
import asyncio, sys, aipc
async def main():
    async with aipc.SysVSemaphoreSet(sys.argv[1], undo=sys.argv[2] == "undo") as row:
        await row.operate([(0, -1), (1, 5)])
    print(row, flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


@pytest.mark.parametrize(("undo", "after"), [("undo", [3, 0, 0]), ("keep", [2, 2, 0])])
async def test_undo_is_of_the_process(undo: str, after: list[int], c_peer: str, key: str) -> None:
    """Closing gives nothing back, the process's end does, and a value does not fall below 0 by it (the clamp)."""
    with anyio.fail_after(20):
        async with fresh(key, 3, 0, 0) as row:
            with python(OURS, key, undo) as ours:
                assert key in said(ours)
                assert row.values == [2, 5, 0]
                with process(c_peer, "keep", key, "1:-3") as peer:
                    assert said(peer) == "done"
                ours.send_signal(signal.SIGKILL)
                ours.wait(10)
            assert row.values == after


async def test_setting_forgets_what_is_undone(c_peer: str, key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, 5, 5) as row:
            for set_them in (lambda: row.set_values([5, 5]), lambda: (row.set_value(0, 5), row.set_value(1, 5))):
                with process(c_peer, "undo", key, "0:-1", "1:-1") as holder:
                    assert said(holder) == "done"
                    set_them()
                assert row.values == [5, 5]


SURVIVED = """
import asyncio, os, sys, aipc
async def main():
    semaphore = await aipc.open_lock(sys.argv[1])
    await semaphore.acquire()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_forked_survivor_holds_nothing(key: str) -> None:
    """What is to be undone is not inherited (semop(2)): the holder's death gives it back, whoever lives on."""
    with anyio.fail_after(20):
        async with fresh(key, 1) as row:
            with python(SURVIVED, f"sysv-sem:{key}") as holder:
                child = int(said(holder))
                assert row.values == [0]
                holder.send_signal(signal.SIGKILL)
                await row.operate([(0, -1)])
                os.kill(child, 0)  # still there
                tell(holder, "")
            row.operate_nowait([(0, 1)])


async def test_stopped_holder_holds(c_peer: str, key: str) -> None:
    with anyio.fail_after(20):
        async with fresh(key, 1) as row, anyio.create_task_group() as tasks:
            with process(c_peer, "undo", key, "0:-1") as holder:
                assert said(holder) == "done"
                holder.send_signal(signal.SIGSTOP)
                tasks.start_soon(row.operate, [(0, -1)])
                with anyio.move_on_after(0.05):
                    while True:
                        assert row.values == [0]
                        await settle()
                holder.send_signal(signal.SIGCONT)
                assert holder.stdin is not None
                holder.stdin.close()


async def test_tools_see_it(key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, 4, 5, 6, mode=0o640) as row:
            lines = [line.split() for line in run("ipcs", "-s", "-i", str(row.identifier)).splitlines()]
            assert [line[1] for line in lines if line and line[0] in ("0", "1", "2")] == ["4", "5", "6"]
            assert row._opened().semaphores.count() == 3
            async with anyio.create_task_group() as tasks:

                async def expect_removed() -> None:
                    with pytest.raises(aipc.ObjectRemoved, match=key):
                        await row.operate([(0, -9)])

                tasks.start_soon(expect_removed)
                await settle()
                run("ipcrm", "-s", str(row.identifier))
            with pytest.raises(aipc.ObjectRemoved):
                row.values  # noqa: B018
            with pytest.raises(aipc.ObjectRemoved):
                row.set_values([1, 2, 3])
        number = run("ipcmk", "-S", "3", "-p", "0600").split()[-1]
        (made,) = [line.split()[0] for line in run("ipcs", "-s").splitlines() if line.split()[1:2] == [number]]
        async with Row(made) as row:
            assert row.values == [0, 0, 0]
            row.remove()
            with pytest.raises(aipc.ObjectRemoved):
                row.remove()
