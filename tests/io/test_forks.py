"""Forked children: what they can't do to their parent's objects, and what is all the same for their own."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import at_once, in_child, raises, settle, until

from ..internet import port_of
from ..peers import python, run, said
from ..subjects import new_key, new_name
from .test_waiting import LOOPS

OWNERS = {
    "sysv-mq": lambda place: f"sysv-mq:{new_key()}",
    "posix-mq": lambda place: f"posix-mq:{new_name()}",
    "fifo": lambda place: f"fifo:{place}/fifo?direction=receive",
    "sysv-sem": lambda place: f"sysv-sem:{new_key()}",
    "posix-sem": lambda place: f"posix-sem:{new_name()}",
    "flock": lambda place: f"flock:{place}/lock",
}


@pytest.mark.anyio
@pytest.mark.parametrize("mechanism", OWNERS)
async def test_closing_in_a_child_removes_nothing(mechanism: str, place: Path) -> None:
    """Its parent is the owner (`unlink`)."""
    url = OWNERS[mechanism](place)
    opener: Any = aipc.open_lock if "sem" in mechanism or "lock" in mechanism else aipc.open_channel
    async with opener(url, create=True, unlink=True) as ours:
        in_child(lambda: at_once(ours.aclose))
        async with opener(url, create=False):
            pass
    with pytest.raises(aipc.ObjectMissing):
        await opener(url, create=False)


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["unix:{}/socket", "unix+seqpacket:{}/socket", "shm:{}/ring", "tcp://127.0.0.1:0"])
async def test_listener_in_a_child(url: str, place: Path) -> None:
    """It accepts nobody there, and closing or draining it stops nobody here."""
    served: list[Any] = []

    async def handler(channel: Channel) -> None:
        served.append(channel)

    async with aipc.listen(url.format(place)) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        await settle()
        refused(listener.accept, listener.__anext__, listener.drain)
        in_child(lambda: at_once(listener.aclose))
        address = url.format(place)
        if "tcp" in url:
            address = f"tcp://127.0.0.1:{port_of(listener)}"
        async with aipc.open_channel(address):
            await until(lambda: served)
        tasks.cancel_scope.cancel()


def refused(*operations: Callable[[], Awaitable[object]]) -> None:
    """Each is ForkedError in a child, at once."""

    def use() -> None:
        for operation in operations:
            with raises(aipc.ForkedError):
                at_once(operation)

    in_child(use)


@pytest.mark.anyio
async def test_semaphores_in_a_child() -> None:
    async with (
        aipc.open_lock(f"sysv-sem:{new_key()}", create=True, unlink=True, value=3) as semaphore,
        aipc.open_lock(f"posix-sem:{new_name()}", create=True, unlink=True, value=3) as posix,
        aipc.SysVSemaphoreSet("private", count=2) as row,
    ):
        refused(
            lambda: semaphore.acquire(2),
            semaphore.wait_zero,
            lambda: posix.acquire(2),
            posix.wait_zero,
            lambda: row.operate([(0, -1)]),
        )
        assert (semaphore.value, posix.value, row.values) == (3, 3, [1, 1])
        in_child(lambda: at_once(row.aclose))
        assert row.values == [1, 1]


@pytest.mark.anyio
async def test_primitives_in_a_child() -> None:
    key = new_key
    async with (
        aipc.Event(key(), create=True, unlink=True) as event,
        aipc.Barrier(key(), 2, create=True, unlink=True) as barrier,
        aipc.Condition(key(), create=True, unlink=True) as condition,
        condition,
    ):
        refused(event.wait, barrier.wait, condition.acquire, condition.wait)
        in_child(lambda: [at_once(thing.aclose) for thing in (event, barrier, condition)])
        assert (event.is_set(), barrier.n_waiting, condition.locked()) == (False, 0, True)


@pytest.mark.anyio
async def test_children_of_the_parent() -> None:
    """They are not the child's: it can't wait for them, and ends none."""
    async with aipc.popen(["cat"], "r+") as cat, aipc.pipeline(["cat"], ["cat"]) as pipeline:
        refused(cat.wait, pipeline.wait)
        in_child(lambda: [at_once(thing.aclose) for thing in (cat, pipeline)])
        await cat.send(b"still there")
        assert await cat.receive() == b"still there"
        assert await pipeline.communicate(b"and these") == b"and these"


CLOCK = """
import asyncio, os, sys
import anyio, aipc

def start(loop, main):
    anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})

async def leave_open():
    global kept
    kept = [await aipc.open_lock(f"flock:{sys.argv[3]}/left") for _ in range(2)]
    await kept[0].acquire()
    with anyio.move_on_after(0.02):
        await kept[1].acquire()

async def wait_by_polling_and_readiness():
    url = f"flock:{sys.argv[3]}/lock"
    one, other = aipc.channel_pair()
    async with one, other, aipc.open_lock(url) as held, aipc.open_lock(url) as wanted, anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            await held.acquire()
            tasks.start_soon(wanted.acquire)
            tasks.start_soon(one.receive)
            await anyio.sleep(0.02)
            held.release()
            await other.send(b"x")

start(sys.argv[1], leave_open)
child = os.fork()
start(sys.argv[2], wait_by_polling_and_readiness)
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both waited", flush=True)
    os._exit(0)
os._exit(0)
"""


PAIRS = [(first, second, "") for first in LOOPS for second in LOOPS]


@pytest.mark.parametrize(
    ("first", "second", "disabled"), PAIRS + [(loop, loop, what) for loop in LOOPS for what in ("doorbell", "timerfd")]
)
def test_fork_after_a_loop(first: str, second: str, disabled: str, place: Path) -> None:
    """What is not closed when its loop ends is the parent's, with all that belonged to that loop."""
    if disabled:
        command = ("env", f"AIPC_DISABLE={disabled}", sys.executable, "-W", "ignore", "-c", CLOCK, first, second, str(place))
        assert run(*command) == "both waited\n"
    else:
        with python(CLOCK, first, second, str(place)) as running:
            assert said(running) == "both waited"
