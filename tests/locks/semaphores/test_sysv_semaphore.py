"""System V semaphores: sets, undo, the largest value, keys, removal."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ...peers import python, run, said, tell

pytestmark = pytest.mark.anyio

LARGEST = 32_767


def fresh(key: str, **options: object) -> aipc.Opening[Lock]:
    """A new set, which goes when it is closed."""
    return aipc.open_lock(f"sysv-sem:{key}", exclusive=True, unlink=True, **options)


def counted(lock: Lock) -> Semaphore:
    assert isinstance(lock, Semaphore)
    return lock


TAKE = """
import asyncio, sys, aipc
async def main():
    semaphore = await aipc.open_lock(sys.argv[1])
    await semaphore.acquire(3)
    print(semaphore.value, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_killed_holder(key: str) -> None:
    """With undo, the kernel gives back what it held; without, nobody does."""
    with anyio.fail_after(20):
        async with fresh(key, value=5) as lock:
            for url, left in ((f"sysv-sem:{key}", 5), (f"sysv-sem:{key}?undo=0", 2)):
                with python(TAKE, url) as holder:
                    assert said(holder) == "2"
                    holder.send_signal(signal.SIGKILL)
                    holder.wait(10)
                assert counted(lock).value == left


async def test_killed_holder_lets_a_waiting_task_in(key: str) -> None:
    with anyio.fail_after(20):
        async with fresh(key, value=3) as lock:
            with python(TAKE, f"sysv-sem:{key}") as holder:
                assert said(holder) == "0"
                assert lock.holder() == holder.pid
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(counted(lock).acquire, 2)
                    await settle()
                    holder.send_signal(signal.SIGKILL)
            assert counted(lock).value == 1


async def test_index_and_count(key: str) -> None:
    """The semaphores of a set are apart."""
    with anyio.fail_after(10):
        async with fresh(key, count=3, value=2) as first, aipc.open_lock(f"sysv-sem:{key}?index=1") as second:
            async with aipc.open_lock(f"sysv-sem:{key}", index=2) as third:
                await counted(second).acquire(2)
                assert [counted(lock).value for lock in (first, second, third)] == [2, 0, 2]
                assert (second.locked(), third.locked()) == (True, False)
            with pytest.raises(aipc.AddressError, match="index=3"):
                await aipc.open_lock(f"sysv-sem:{key}", index=3)
            with pytest.raises(aipc.AddressError, match=r"index=3.*0 to 2"):
                await aipc.open_lock(f"sysv-sem:{key}", create=True, count=3, index=3)


@pytest.mark.parametrize("value", [LARGEST + 1, 1 << 40, -1])
async def test_value_out_of_range(value: int, key: str) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.AddressError, match=f"value='?{value}"):
            await aipc.open_lock(f"sysv-sem:{key}?create=1&value={value}")
        with pytest.raises(aipc.AddressError, match=f"value={value}"):
            await aipc.open_lock(f"sysv-sem:{key}", create=True, value=value)
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(f"sysv-sem:{key}")


async def test_over_the_kernels_limit(key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, value=LARGEST, undo=False) as lock:
            with pytest.raises(aipc.LimitExceeded, match=key):
                lock.release()
            assert counted(lock).value == LARGEST
            await counted(lock).acquire(2)
            with pytest.raises(aipc.LimitExceeded):
                counted(lock).release(3)
            assert counted(lock).value == LARGEST - 2


@pytest.mark.parametrize("n", [0, -1, LARGEST + 1])
async def test_bad_number(n: int, key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, value=2) as lock:
            semaphore = counted(lock)
            with pytest.raises(ValueError, match=f"n={n}"):
                await semaphore.acquire(n)
            with pytest.raises(ValueError, match=f"n={n}"):
                semaphore.acquire_nowait(n)
            with pytest.raises(ValueError, match=f"n={n}"):
                semaphore.release(n)
            assert semaphore.value == 2


async def test_removed_while_waiting(key: str) -> None:
    """Every waiting task learns of it, and so does every later call."""

    async def expect_removed(semaphore: Semaphore, operation: str) -> None:
        with pytest.raises(aipc.ObjectRemoved, match=key):
            await getattr(semaphore, operation)()

    with anyio.fail_after(10):
        async with fresh(key, value=1) as lock, aipc.open_lock(f"sysv-sem:{key}") as other:
            one, two = counted(lock), counted(other)
            await one.acquire()
            one.release()
            await one.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_removed, one, "acquire")
                tasks.start_soon(expect_removed, two, "acquire")
                await settle()
                run("ipcrm", "-s", set_id(key))
            with pytest.raises(aipc.ObjectRemoved):
                two.acquire_nowait()
            with pytest.raises(aipc.ObjectRemoved):
                one.release()
            with pytest.raises(aipc.ObjectRemoved):
                assert two.value
            with pytest.raises(aipc.ObjectRemoved):
                two.locked()
            with pytest.raises(aipc.ObjectRemoved):
                two.holder()


async def test_removed_while_waiting_for_zero(key: str) -> None:
    async def expect_removed(semaphore: Semaphore) -> None:
        with pytest.raises(aipc.ObjectRemoved):
            await semaphore.wait_zero()

    with anyio.fail_after(10):
        async with fresh(key) as lock, anyio.create_task_group() as tasks:
            tasks.start_soon(expect_removed, counted(lock))
            await settle()
            run("ipcrm", "-s", set_id(key))


def sets() -> list[list[str]]:
    """The lines of ipcs(1): key, identifier, owner, mode, semaphores."""
    return [line.split() for line in run("ipcs", "-s").splitlines() if line.startswith("0x")]


def set_id(key: str) -> str:
    """What ipcs(1) calls the set."""
    (identifier,) = [line[1] for line in sets() if int(line[0], 16) == int(key, 16)]
    return identifier


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666], ids=oct)
async def test_mode(mode: int, key: str) -> None:
    before = os.umask(0o077)
    try:
        async with fresh(key, mode=mode, count=4):
            (line,) = [line for line in sets() if int(line[0], 16) == int(key, 16)]
            assert line[3:5] == [f"{mode:o}", "4"]
    finally:
        os.umask(before)


async def test_missing_and_exclusive(key: str) -> None:
    url = f"sysv-sem:{key}"
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing, match=key):
            await aipc.open_lock(url)
        async with fresh(key):
            with pytest.raises(aipc.ObjectExists, match=key):
                await aipc.open_lock(url, exclusive=True)
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(url)
        async with aipc.open_lock(url, create=True):
            pass
        async with aipc.open_lock(url, unlink=True):
            pass
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(url)


async def test_private() -> None:
    """A set of its own for each, removed when closed."""
    before = sets()
    with anyio.fail_after(10):
        async with aipc.open_lock("sysv-sem:private", value=2) as one, aipc.open_lock("sysv-sem:private") as other:
            assert (counted(one).value, counted(other).value) == (2, 1)
            assert [line[0] for line in sets() if line not in before].count("0x00000000") == 2
    assert [line for line in sets() if line not in before and line[0] == "0x00000000"] == []


async def test_ftok(place: Path) -> None:
    """The key forms are those of the queues: a path with a project is ftok(3)'s key."""
    path = place / "of a key"
    path.touch()
    with anyio.fail_after(10):
        async with fresh(f"{path}?project=7"):
            key = 7 << 24 | (path.stat().st_dev & 0xFF) << 16 | path.stat().st_ino & 0xFFFF
            assert key in [int(line[0], 16) for line in sets()]
        with pytest.raises(aipc.AddressError):
            await aipc.open_lock(f"sysv-sem:{path}")


COUNT = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_lock(sys.argv[1]) as lock:
        for _ in range(int(sys.stdin.readline())):
            async with lock:
                with open(sys.argv[2], "r+") as file:
                    number = int(file.read())
                    file.seek(0)
                    file.write(str(number + 1))
asyncio.run(main())
"""


def test_processes_count_together(place: Path, key: str) -> None:
    """None of 4 x 200 unprotected additions is lost."""
    counter = place / "counter"
    counter.write_text("0")
    url = f"sysv-sem:{key}?create=1"
    with ExitStack() as stack:
        workers = [stack.enter_context(python(COUNT, url, str(counter))) for _ in range(4)]
        for worker in workers:
            tell(worker, "200")
        assert [worker.wait(30) for worker in workers] == [0, 0, 0, 0]
    run("ipcrm", "-S", key)
    assert counter.read_text() == "800"
