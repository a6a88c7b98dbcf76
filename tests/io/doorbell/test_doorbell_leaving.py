"""The board in a directory of the test's own: processes come and go, at once, by fork or by forgetting, and leave nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io.doorbell import Doorbell
from aipc._sys.doorbell.member import member
from aipc._sys.doorbell.table import WaiterTable
from aipc.testing.expect import in_child, settle

from ...peers import python, run, said
from ...subjects import times
from ..waiters import BOARD_WAITER, CHILD, claimed, close, there

pytestmark = pytest.mark.usefixtures("all_features")

LOOPS = ["asyncio", "uvloop", "trio"]

COMING_AND_GOING = (
    CHILD
    + """
from aipc._sys.doorbell import table as doorbell_table
doorbell_table.DIRECTORY = sys.argv[2]
async def main():
    for _ in range(int(sys.argv[4])):
        async with aipc.open_lock(sys.argv[3]) as it, it:
            await anyio.sleep(0)
start(sys.argv[1], main)
print("done")
"""
)


@pytest.mark.parametrize("loop", LOOPS)
def test_coming_and_going(loop: str, bells: Path, url: str) -> None:
    """Two processes enter and leave at once, hundreds of times: the second to leave removes it all."""
    count = str(times(100, 300))
    with (
        python(COMING_AND_GOING, loop, str(bells), url, count) as one,
        python(COMING_AND_GOING, loop, str(bells), url, count) as other,
    ):
        assert said(one) == said(other) == "done"
        assert one.wait() == other.wait() == 0
    assert there(bells) == []


AT_ONCE = """
import mmap, os, sys
from aipc._sys.doorbell import table as doorbell_table
place, me = sys.argv[1], int(sys.argv[2])
with open(f"{place}/progress", "r+b") as file:
    progress = mmap.mmap(file.fileno(), 2)
def meet():
    progress[me] = (progress[me] + 1) % 256
    while progress[1 - me] == (progress[me] - 1) % 256:
        os.sched_yield()
for number in range(int(sys.argv[3])):
    doorbell_table.DIRECTORY = f"{place}/{number}"
    board = doorbell_table.WaiterTable()
    meet()
    board.leave()
    board.forget_fifos()
print("done")
"""


def test_leaving_at_once(bells: Path) -> None:
    """Of two, one removes the board; many times, as it takes luck to meet."""
    for number in range(count := times(300, 1_000)):
        (bells / str(number)).mkdir()
    (bells / "progress").write_bytes(bytes(2))
    with python(AT_ONCE, str(bells), "0", str(count)) as one, python(AT_ONCE, str(bells), "1", str(count)) as other:
        assert said(one) == said(other) == "done"
    assert [path.name for path in bells.glob("*/*")] == []


UNCLOSED = (
    CHILD
    + """
from aipc._sys.doorbell import table as doorbell_table
doorbell_table.DIRECTORY = sys.argv[2]
async def main():
    global kept
    kept = [await aipc.open_lock(sys.argv[3]) for _ in range(2)]
    kept[0].acquire_nowait()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kept[1].acquire)
        while not parked():
            await anyio.sleep(0)
        kept[0].release()
        print(len(os.listdir(sys.argv[2])), flush=True)
start(sys.argv[1], main)
"""
)


@pytest.mark.parametrize("loop", LOOPS)
def test_never_closed(loop: str, bells: Path, url: str) -> None:
    """The process's end removes it."""
    assert run(sys.executable, "-W", "ignore", "-c", UNCLOSED, loop, str(bells), url) == "2\n"
    assert there(bells) == []


@pytest.mark.anyio
async def test_forked_child(bells: Path, url: str) -> None:
    """It holds none of its parent's locks: the parent's column and board go while it lives. Its own doorbells work."""
    reading, writing = os.pipe()
    async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
        one.acquire_nowait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.acquire)
            await settle()
            one.release()
            assert there(bells) == ["", "-0"]
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
    try:
        assert there(bells) == []
        board = WaiterTable()
        with claimed(board, 1):
            pass  # the first column is free
        close(board)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


FORKED = """
import os
def fork():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, b"begun")
        os.read(0, 1)
        os._exit(0)
    os.read(reading, 5)
""" + BOARD_WAITER.replace('print("parked"', 'fork(); print("parked"')


@pytest.mark.parametrize("loop", LOOPS)
def test_survivor_of_a_killed_process(loop: str, bells: Path, url: str) -> None:
    """A forked child that outlives it keeps neither its column nor the board."""
    with open(url.removeprefix("flock:"), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with python(FORKED, loop, str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            assert there(bells) == ["", "-0"]
            waiter.kill()
            waiter.wait()
            board = WaiterTable()
            with claimed(board, 1):
                pass
            close(board)
            assert there(bells) == []


async def _take_turns(url: str) -> None:
    async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
        one.acquire_nowait()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.acquire)
                await settle()
                one.release()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_forked_child_has_doorbells_of_its_own(bells: Path, url: str) -> None:
    """While its parent's are in use, which are not its own to remove."""

    def use() -> None:
        asyncio.run(_take_turns(f"{url}2"))
        assert there(bells) == ["", "-0"]

    async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
        one.acquire_nowait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.acquire)
            await settle()
            with anyio.fail_after(30):
                while there(bells) != ["", "-0"]:
                    await anyio.sleep(0)
            in_child(use)
            one.release()
    assert there(bells) == []


def test_forked_child_of_a_thread_that_enters(bells: Path) -> None:
    """The lock that this thread has at the fork is held by nobody in the child, where the doorbell is dropped."""
    entered, forked = threading.Event(), threading.Event()
    dropped = [Doorbell("flock:/dropped")]

    def enter() -> None:
        with member()._lock:
            entered.set()
            forked.wait()

    def drop() -> None:
        signal.alarm(10)
        dropped.clear()

    entering = threading.Thread(target=enter)
    entering.start()
    try:
        entered.wait()
        in_child(drop)
    finally:
        forked.set()
        entering.join()
        dropped.clear()
    assert there(bells) == []
