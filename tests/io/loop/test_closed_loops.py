"""A loop that was closed while a task of it waited: what it leaves is in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import aipc
from aipc.testing.expect import settle

from ...peers import python, said
from ...subjects import new_key, new_name
from ..test_waiting import LOOPS, RUNNERS, park_and_receive

ASYNCIOS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@contextmanager
def closed_amid(loop: str, operation: Callable[[], Coroutine[Any, Any, object]], tasks: int = 1) -> Iterator[None]:
    """Begin it in a loop, several times, and close that."""
    first = ASYNCIOS[loop]()
    waiting = [first.create_task(operation()) for _ in range(tasks)]
    first.run_until_complete(settle())
    assert not any(task.done() for task in waiting)
    first.close()
    try:
        yield
    finally:
        for task in waiting:
            task._log_destroy_pending = False  # that it never ended is what this is about
            task.get_coro().close()


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", ASYNCIOS)
@pytest.mark.parametrize("mechanism", ["flock", "fcntl", "sysv-sem", "posix-sem"])
def test_lock(mechanism: str, first: str, second: str, tasks: int, place: Path) -> None:
    """`release` raises nothing, and the task that still lives has the lock."""
    name = {"sysv-sem": new_key(), "posix-sem": new_name()}.get(mechanism, str(place / "lock"))
    options = {"exclusive": True, "unlink": True} if "sem" in mechanism else {}
    opened: list[Any] = []

    async def open_and_hold() -> None:
        opened.append(await aipc.open_lock(f"{mechanism}:{name}", **options))
        await opened[0].acquire()

    async def wait_and_release() -> None:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(opened[0].acquire)
                await settle()
                opened[0].release()
        await opened[0].aclose()

    RUNNERS[first](open_and_hold)
    with closed_amid(first, opened[0].acquire, tasks):
        RUNNERS[second](wait_and_release)


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", ASYNCIOS)
def test_channel(first: str, second: str) -> None:
    ours, theirs = aipc.channel_pair()
    with closed_amid(first, ours.receive, 2):
        RUNNERS[second](lambda: park_and_receive(ours, theirs))
    ours.close()
    theirs.close()


@pytest.mark.parametrize("first", ASYNCIOS)
def test_closing(first: str, place: Path) -> None:
    """In no loop at all."""
    ours, theirs = aipc.channel_pair()
    with closed_amid(first, ours.receive, 2):
        ours.close()
    theirs.close()


WITHOUT_A_TIMER = """
import os
os.environ["AIPC_DISABLE"] = "timerfd,doorbell"
import sys, trio, aipc
from aipc._io.loop import reactor
from aipc._sys import probes
probes.enabled.cache_clear()
kept = []
async def main():
    held, wanted = [await aipc.open_lock(f"flock:{sys.argv[1]}") for _ in range(2)]
    kept.extend((held, wanted))
    await held.acquire()
    with trio.move_on_after(0.02):
        await wanted.acquire()
    held.release()
    print(len(reactor._reactors), flush=True)
for _ in range(5):
    trio.run(main)
    print(len(reactor._reactors), flush=True)
os._exit(0)  # the locks were never closed
"""


def test_a_run_of_trio_leaves_nothing_in_the_tables(place: Path) -> None:
    """Also where the kernel gives no timer, and so no descriptor tells of the end."""
    with python(WITHOUT_A_TIMER, str(place / "lock")) as child:
        assert [said(child) for _ in range(10)] == ["1", "0"] * 5
