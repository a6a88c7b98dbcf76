"""POSIX semaphores: the largest value, names, modes, creation, removal; the peer is a C program where that matters."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys.posix import semaphore as posix
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, run, said
from ...peers.posix_semaphore import hammer
from ...subjects import new_name, times

pytestmark = pytest.mark.anyio

LARGEST = 2_147_483_647


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("posix_semaphore", tmp_path_factory))


@pytest.fixture
def name() -> str:
    return new_name()


def fresh(name: str, **options: object) -> aipc.Opening[Lock]:
    """A new semaphore, which goes when it is closed."""
    return aipc.open_lock(f"posix-sem:{name}", exclusive=True, unlink=True, **options)


def counted(lock: Lock) -> Semaphore:
    assert isinstance(lock, Semaphore)
    return lock


CONTEND = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_lock(sys.argv[1]) as semaphore:
        for turn in range(int(sys.argv[3])):
            await semaphore.acquire(int(sys.argv[2]))
            assert semaphore.value <= 4 - int(sys.argv[2])
            await asyncio.sleep(0)
            semaphore.release(int(sys.argv[2]))
        print("done", flush=True)
asyncio.run(main())
"""


async def test_takers_of_several_get_on(name: str) -> None:
    """Four processes that want 1, 2, 3 and 4 of 4: each ends, and each unit is back."""
    with anyio.fail_after(60):
        async with fresh(name, value=4) as lock:
            url = f"posix-sem:{name}"
            with ExitStack() as stack:
                takers = [stack.enter_context(python(CONTEND, url, str(n), "200")) for n in (1, 2, 3, 4)]
                assert [said(taker) for taker in takers] == ["done"] * 4
            assert counted(lock).value == 4


async def test_too_few_are_given_back(name: str) -> None:
    """Somebody takes one while a thousand are being taken: none of the others is kept."""
    async with fresh(name, value=1_000) as lock:
        with hammer(name), anyio.fail_after(30):
            for _ in range(500):
                try:
                    counted(lock).acquire_nowait(1_000)
                except anyio.WouldBlock:
                    continue
                counted(lock).release(1_000)
        assert counted(lock).value == 1_000


TAKE = """
import asyncio, sys, aipc
async def main():
    semaphore = await aipc.open_lock(sys.argv[1])
    await semaphore.acquire()
    print(semaphore.value, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_killed_holder_keeps_it(name: str) -> None:
    """Without `robust` nobody gives back what it held: the kernel does not know."""
    with anyio.fail_after(20):
        async with fresh(name, value=2) as lock:
            with python(TAKE, f"posix-sem:{name}") as holder:
                assert said(holder) == "1"
                assert lock.holder() is None
                holder.send_signal(signal.SIGKILL)
                holder.wait(10)
            assert counted(lock).value == 1


async def test_largest_value(name: str) -> None:
    with anyio.fail_after(10):
        async with fresh(name, value=LARGEST, counter=True) as lock:
            semaphore = counted(lock)
            with pytest.raises(aipc.LimitExceeded, match=name):
                semaphore.release()
            await semaphore.acquire(2)
            with pytest.raises(aipc.LimitExceeded, match="2,147,483,647"):
                semaphore.release(3)
            assert semaphore.value == LARGEST - 2
            semaphore.release(2)
            assert semaphore.value == LARGEST


@pytest.mark.parametrize("value", [LARGEST + 1, 1 << 40, -1])
async def test_value_out_of_range(value: int, name: str) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.AddressError, match=f"value='?{value}"):
            await aipc.open_lock(f"posix-sem:{name}?create=1&value={value}")
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(f"posix-sem:{name}")


@pytest.mark.parametrize("n", [0, -1, LARGEST + 1])
async def test_bad_number(n: int, name: str) -> None:
    with anyio.fail_after(10):
        async with fresh(name, value=2) as lock:
            semaphore = counted(lock)
            with pytest.raises(ValueError, match=f"n={n}"):
                await semaphore.acquire(n)
            with pytest.raises(ValueError, match=f"n={n}"):
                semaphore.acquire_nowait(n)
            with pytest.raises(ValueError, match=f"n={n}"):
                semaphore.release(n)
            assert semaphore.value == 2


@pytest.mark.parametrize("rest", ["", "name", "/", "/.", "/..", "/a/b", "//name", "/a%2Fb", "/" + 252 * "x"])
async def test_bad_name(rest: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match="name"):
        await aipc.open_lock(f"posix-sem:{rest}", create=True, unlink=True)


@pytest.mark.parametrize("rest", ["a b", "ä", "%FF", "x" * 200])
@pytest.mark.parametrize("robust", [False, True])
async def test_odd_name(robust: bool, rest: str) -> None:
    async with fresh(new_name() + rest, robust=robust) as lock, lock:
        assert lock.locked()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666], ids=oct)
async def test_mode(mode: int, name: str) -> None:
    before = os.umask(0o077)
    try:
        async with fresh(name, mode=mode):
            assert stat.S_IMODE(os.stat(posix.path_of(name)).st_mode) == mode
    finally:
        os.umask(before)


async def test_missing_and_exclusive(name: str) -> None:
    url = f"posix-sem:{name}"
    with anyio.fail_after(10):
        for robust in (False, True):
            with pytest.raises(aipc.ObjectMissing, match=name):
                await aipc.open_lock(url, robust=robust)
        async with fresh(name):
            with pytest.raises(aipc.ObjectExists, match=name):
                await aipc.open_lock(url, exclusive=True)
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(url)
        async with aipc.open_lock(url, create=True):
            pass
        async with aipc.open_lock(url, unlink=True):
            pass
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(url)


@pytest.mark.parametrize("size", [0, 31])
@pytest.mark.parametrize("robust", [False, True])
async def test_file_that_is_no_semaphore(robust: bool, size: int, name: str) -> None:
    """The C library would map it, and kill whoever touches it."""
    file = Path(posix.path_of(name))
    file.write_bytes(bytes(size))
    try:
        with pytest.raises(aipc.WrongObject, match=f"{name}.*has {size} bytes"):
            await aipc.open_lock(f"posix-sem:{name}?create=1", robust=robust)
    finally:
        file.unlink()


async def test_removed_semaphore_lives_on_until_it_is_closed(name: str) -> None:
    with anyio.fail_after(10):
        async with fresh(name) as lock, aipc.open_lock(f"posix-sem:{name}") as other:
            posix.attach(name).unlink()
            async with fresh(name, value=7) as successor:
                async with lock:
                    assert other.locked()
                    assert counted(successor).value == 7
                await lock.aclose()  # was to unlink its own semaphore, which another one has replaced
                async with aipc.open_lock(f"posix-sem:{name}") as again:
                    assert counted(again).value == 7


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user, and only root can become one")
async def test_another_user(name: str) -> None:
    stranger = """
import asyncio, os, sys, aipc
opening = aipc.open_lock(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
async def main():
    try:
        async with opening as lock, lock:
            print("held", flush=True)
    except aipc.AccessDenied:
        print("denied", flush=True)
asyncio.run(main())
"""
    for mode, expected in ((0o600, "denied"), (0o644, "denied"), (0o666, "held")):
        for robust in (False, True):
            async with fresh(name, mode=mode, robust=robust):
                with python(stranger, f"posix-sem:{name}?robust={robust:d}") as other:
                    assert said(other) == expected


async def test_from_c(c_peer: str, name: str) -> None:
    async with fresh(name, value=0, counter=True) as lock:
        with anyio.fail_after(10):
            assert run(c_peer, "post", name) == "1\n"
            await lock.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(counted(lock).acquire)
                await settle()
                await anyio.to_thread.run_sync(run, c_peer, "post", name)
            assert counted(lock).value == 0


async def test_to_c_that_waits(c_peer: str, name: str) -> None:
    async with fresh(name) as lock:
        with anyio.fail_after(10):
            async with lock:
                with process(c_peer, "wait", name) as peer:
                    await settle()
                    lock.release()
                    assert said(peer) == "0"
                assert lock.locked()
                assert run(c_peer, "post", name) == "1\n"
                await lock.acquire()


PROCESSES = times(16, 64)


@pytest.mark.parametrize("value", [0, 5])
def test_created_by_many_at_once(value: int, name: str) -> None:
    """Many processes create it; whoever comes first, each sees the value that all asked for."""
    url = f"posix-sem:{name}"

    async def see() -> int:
        async with aipc.open_lock(url, create=True, value=value) as lock:
            return counted(lock).value

    started, start = os.pipe()
    seen, tell_seen = os.pipe()
    children = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                os.close(start)
                os.read(started, 1)  # until the parent closes the other end
                os.write(tell_seen, bytes([asyncio.run(see())]))
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for end in (tell_seen, started, start):
        os.close(end)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    values = os.read(seen, 100)
    os.close(seen)
    posix.attach(name).unlink()
    assert statuses == [0] * PROCESSES
    assert list(values) == [value] * PROCESSES
