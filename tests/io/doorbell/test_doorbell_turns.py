"""Doorbells among several waiters: no ring is lost, and each finds who has use for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import anyio
import pytest

import aipc
from aipc._io import polling
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, run, said, tell
from ...subjects import new_key, new_name
from ..waiters import CHILD, WAITER, loop_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]


async def test_several_waiters(key: str, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """Each release wakes one; one that was killed is passed over."""
    url = f"sysv-sem:{key}?undo=0"
    waiter = WAITER, loop_of(anyio_backend), f"aipc.open_lock({url!r})", "it.acquire()"
    async with aipc.open_lock(url, exclusive=True, unlink=True, value=0) as ours:
        with python(*waiter) as one, python(*waiter) as two, python(*waiter) as three:
            for peer in (one, two, three):
                assert said(peer) == "parked"
            two.kill()
            two.wait()
            ours.release()
            ours.release()
            assert said(one) == said(three) == "None"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_one_ring_reaches_who_has_use_for_it(
    key: str, order: tuple[int, int], anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    """Semaphores of one set share a row: who waits for another one passes the ring on."""
    urls = [f"sysv-sem:{key}?undo=0&index={index}" for index in (0, 1)]
    loop = loop_of(anyio_backend)
    async with aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[0, 0]):
        with (
            python(WAITER, loop, f"aipc.open_lock({urls[0]!r})", "it.acquire()") as first,
            python(WAITER, loop, f"aipc.open_lock({urls[1]!r})", "it.acquire()") as second,
        ):
            assert said(first) == said(second) == "parked"
            for index in order:
                async with aipc.open_lock(urls[index]) as ours:
                    ours.release()
                    assert said((first, second)[index]) == "None"


TURNS = (
    CHILD
    + """
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(sys.argv[3])):
            async with it:
                await anyio.sleep(0)
    print("done", flush=True)
hour()
start(sys.argv[1], main)
"""
)


@pytest.mark.parametrize("scheme", ["sysv-sem", "posix-sem", "flock", "fcntl"])
async def test_no_ring_is_lost(scheme: str, place: Path, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """Three processes take turns with one lock: who misses a ring waits for an hour."""
    name = new_name() if scheme == "posix-sem" else new_key() if scheme == "sysv-sem" else f"{place}/lock"
    made = {} if scheme in ("flock", "fcntl") else {"create": True, "unlink": True}
    turns = TURNS, loop_of(anyio_backend), f"{scheme}:{name}", "200"
    async with aipc.open_lock(f"{scheme}:{name}", **made):
        with python(*turns) as one, python(*turns) as two, python(*turns) as three:
            for peer in (one, two, three):
                assert said(peer) == "ready"
            for peer in (one, two, three):
                tell(peer, "go")
            assert [said(peer) for peer in (one, two, three)] == ["done"] * 3


RELEASER = (
    CHILD
    + """
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        it.acquire_nowait()
        print("acquired", flush=True)
        sys.stdin.readline()
        it.release()
        print("released", flush=True)
        sys.stdin.readline()
start(sys.argv[1], main)
"""
)


async def test_released_just_before_the_wait(
    place: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    """Between the last vain try and the moment from which this process can be rung: one more try finds it."""
    for pause in ("FIRST_PAUSE", "RUNG_PAUSE", "LONG_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(polling, pause, 3600.0)
    url = f"flock:{place}/lock"
    with python(RELEASER, loop_of(anyio_backend), url) as releaser:
        assert said(releaser) == "acquired"
        async with aipc.open_lock(url) as ours:
            handle = ours._handle  # type: ignore[attr-defined]
            handle.polling.spins = False  # park at once

            def take() -> None:
                try:
                    handle.take()
                except BlockingIOError:
                    tell(releaser, "release")
                    assert said(releaser) == "released"
                    raise

            with anyio.fail_after(20):
                await handle.polling.attempt(take)
            ours.release()


THREADS = (
    CHILD
    + """
import threading
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        for _ in range(100):
            async with it:
                await anyio.sleep(0)
hour()
threads = [threading.Thread(target=start, args=(loop, main)) for loop in ("asyncio", "uvloop", "trio") * 2]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
"""
)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_loops_in_threads(place: Path) -> None:
    """Six loops in one process ring each other; they share its board."""
    assert run(sys.executable, "-c", THREADS, "asyncio", f"flock:{place}/lock") == "done\n"


async def test_own_tasks_and_another_object_of_the_same_loop(place: Path) -> None:
    """A release wakes both: this object's tasks directly, the other object's by its loop's own bell."""
    async with aipc.open_lock(f"flock:{place}/lock") as one, aipc.open_lock(f"flock:{place}/lock") as other:
        await one.acquire()

        async def take_turn(lock: aipc.abc.Lock) -> None:
            async with lock:
                await settle()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take_turn, one)
                tasks.start_soon(take_turn, other)
                await settle()
                one.release()


async def test_after_closing(key: str) -> None:
    """Nothing is rung any more, and nothing is raised."""
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True) as queue:
        queue.send_nowait(b"x")
        polling = queue._handle.incoming  # type: ignore[attr-defined]
    polling.notify()
    polling.notify(1)
    polling.close()


@pytest.fixture(scope="module")
def c_ringer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("ringer", tmp_path_factory))


async def test_c_program_that_rings(key: str, c_ringer: str, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """The layout is as documented: a C program sends a message, and wakes who waits for it."""
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True):
        with python(WAITER, loop_of(anyio_backend), f"aipc.open_channel('sysv-mq:{key}')", "it.receive()") as waiter:
            assert said(waiter) == "parked"
            assert run(c_ringer, key, "from C") == "rang 1\n"
            assert said(waiter) == "b'from C'"


QUIET = (
    CHILD
    + """
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        await it.acquire()
        print("acquired", flush=True)
start(sys.argv[1], main)
"""
)


async def test_switched_off(place: Path, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """AIPC_DISABLE=doorbell: the pauses do."""
    url = f"flock:{place}/lock"
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with process("env", "AIPC_DISABLE=doorbell", sys.executable, "-c", QUIET, loop_of(anyio_backend), url) as waiter:
            await settle()
            ours.release()
            assert said(waiter) == "acquired"


SENDER = (
    CHILD
    + """
async def main():
    async with aipc.open_channel(sys.argv[2]) as it:
        print("ready", flush=True)
        for line in sys.stdin:
            await it.send(line.encode())
start(sys.argv[1], main)
"""
)


async def test_after_a_call_the_next_wait_relies_on_one(
    key: str, monkeypatch: pytest.MonkeyPatch, anyio_backend: tuple[str, dict[str, bool]]
) -> None:
    """Its first look comes later."""
    monkeypatch.setattr(polling, "RUNG_PAUSE", 3600.0)
    monkeypatch.setattr(polling, "LONG_PAUSE", 3600.0)
    url = f"sysv-mq:{key}"
    async with aipc.open_channel(url, exclusive=True, unlink=True) as ours:
        waiting = ours._handle.incoming  # type: ignore[attr-defined]

        async def pause_until(provide: Callable[[], object]) -> float:
            """Of the first look of a wait, which then ends by what is provided."""
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ours.receive)
                while not waiting.waiting:
                    await anyio.sleep(0)
                pause = float(waiting.due - monotonic())
                provide()
            return pause

        with python(SENDER, loop_of(anyio_backend), url) as sender:
            assert said(sender) == "ready"
            monkeypatch.setattr(polling, "FIRST_PAUSE", 3600.0)  # so that only a call can end this wait
            await pause_until(lambda: tell(sender, "one"))
            monkeypatch.setattr(polling, "FIRST_PAUSE", 50e-6)
            assert await pause_until(lambda: tell(sender, "two")) > 1000
