"""Locks on files between aipc and C: flock(2), open-file-description and classic locks, each way; holders that die, fork, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...peers import compile_peer, process, said

pytestmark = pytest.mark.anyio

KINDS = {"flock": "flock:{}", "ofd": "fcntl:{}?start=5&length=10", "posix": "fcntl:{}?start=5&length=10&owner=process"}
SEES = {"flock": {"flock"}, "ofd": {"ofd", "posix"}, "posix": {"ofd", "posix"}}  # who excludes whom
Holding = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("file_lock", tmp_path_factory))


@pytest.fixture
def path(place: Path) -> Path:
    return place / "lock"


@pytest.fixture
def holding(c_peer: str, path: Path) -> Holding:
    """A C process that holds the lock until its standard input ends."""

    @contextmanager
    def hold(kind: str, how: str = "exclusive", start: int = 5, length: int = 10) -> Iterator[subprocess.Popen[str]]:
        with process(c_peer, kind, how, str(path), str(start), str(length)) as holder:
            assert said(holder) == "held"
            yield holder

    return hold


@pytest.fixture
def c_gets_it(c_peer: str, path: Path) -> Callable[..., bool]:
    """Whether C can have the lock now."""

    def ask(kind: str, how: str = "exclusive", start: int = 5, length: int = 10) -> bool:
        command = [c_peer, kind, how, str(path), str(start), str(length), "try"]
        status = subprocess.run(command, check=False, timeout=10).returncode
        assert status in (0, 75)
        return status == 0

    return ask


def let_go(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_c_waits_for_us(kind: str, c_peer: str, c_gets_it: Callable[..., bool], path: Path) -> None:
    url = KINDS[kind].format(path)
    with anyio.fail_after(20):
        async with aipc.open_lock(url) as lock, aipc.open_lock(url, shared=True) as shared:
            async with lock:
                for theirs in KINDS:
                    seen = theirs in SEES[kind]
                    assert c_gets_it(theirs) is not seen
                    assert c_gets_it(theirs, "shared") is not seen
                    if theirs != "flock":
                        assert c_gets_it(theirs, start=0, length=5)
                        assert c_gets_it(theirs, start=15, length=0)
                        assert c_gets_it(theirs, start=14, length=1) is not seen
                with process(c_peer, kind, "exclusive", str(path), "5", "10") as waiter:
                    await settle()
                    lock.release()
                    assert said(waiter) == "held"
                    with pytest.raises(anyio.WouldBlock):
                        lock.acquire_nowait()
                    let_go(waiter)
                    await lock.acquire()
            async with shared:
                assert not c_gets_it(kind)
                assert c_gets_it(kind, "shared")


@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("kind", KINDS)
async def test_we_wait_for_c(kind: str, theirs: str, holding: Holding, path: Path) -> None:
    """And know who holds it, though the kernel names no process for an open file's lock."""
    if theirs not in SEES[kind]:
        return
    url = KINDS[kind].format(path)
    with anyio.fail_after(20):
        async with aipc.open_lock(url) as lock, aipc.open_lock(url, shared=True) as shared:
            with holding(theirs) as holder:
                for ours in (lock, shared):
                    with pytest.raises(anyio.WouldBlock):
                        ours.acquire_nowait()
                    assert ours.locked()
                    assert ours.holder() == holder.pid
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lock.acquire)
                    await settle()
                    assert lock.holder() == holder.pid
                    let_go(holder)
            assert lock.holder() == shared.holder() == os.getpid()
            lock.release()
            with holding(theirs, "shared") as holder:
                async with shared:
                    with pytest.raises(anyio.WouldBlock):
                        lock.acquire_nowait()
                assert lock.holder() == holder.pid


@pytest.mark.parametrize("kind", ["ofd", "posix"])
async def test_upgrade_waits_for_c(kind: str, holding: Holding, c_gets_it: Callable[..., bool], path: Path) -> None:
    """And C never has it in between."""
    with anyio.fail_after(20):
        async with aipc.open_lock(KINDS[kind].format(path), shared=True) as lock, lock:
            assert isinstance(lock, aipc.ByteRangeLock)
            with holding(kind, "shared") as holder:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lock.upgrade)
                    await settle()
                    assert not c_gets_it(kind)
                    assert c_gets_it(kind, "shared")
                    let_go(holder)
                assert not c_gets_it(kind, "shared")
            lock.downgrade()
            assert not c_gets_it(kind)
            assert c_gets_it(kind, "shared")


@pytest.mark.parametrize("kind", KINDS)
async def test_killed_holders(kind: str, holding: Holding, path: Path) -> None:
    """A waiting task has the lock of a killed process, a hundred times."""
    with anyio.fail_after(60):
        async with aipc.open_lock(KINDS[kind].format(path)) as lock, anyio.create_task_group() as tasks:
            for _ in range(100):
                with holding(kind) as holder:
                    with pytest.raises(anyio.WouldBlock):
                        lock.acquire_nowait()
                    tasks.start_soon(anyio.to_thread.run_sync, holder.kill)
                    await lock.acquire()
                lock.release()


@pytest.mark.parametrize("kind", KINDS)
async def test_forked_survivor(kind: str, c_peer: str, path: Path) -> None:
    """A child shares the lock of an open file, and keeps it when its parent is killed; a classic one is not inherited."""
    with anyio.fail_after(20):
        async with aipc.open_lock(KINDS[kind].format(path)) as lock:
            with process(c_peer, f"fork-{kind}", "exclusive", str(path), "5", "10") as parent:
                child = int(said(parent))
                parent.kill()
                parent.wait()
                if kind != "posix":
                    with pytest.raises(anyio.WouldBlock):
                        lock.acquire_nowait()
                    assert lock.locked()
                    if kind == "ofd":
                        assert lock.holder() == child
                    os.kill(child, signal.SIGKILL)
                await lock.acquire()
                lock.release()


@pytest.mark.parametrize("kind", KINDS)
async def test_stopped_holder(kind: str, holding: Holding, path: Path) -> None:
    """It holds on, and lets go when it goes on."""
    with anyio.fail_after(20):
        async with aipc.open_lock(KINDS[kind].format(path)) as lock, anyio.create_task_group() as tasks:
            with holding(kind) as holder:
                holder.send_signal(signal.SIGSTOP)
                tasks.start_soon(lock.acquire)
                let_go(holder)
                with anyio.move_on_after(0.05):
                    while True:
                        assert lock.holder() == holder.pid
                        await settle()
                holder.send_signal(signal.SIGCONT)


OVERLAY = """
import asyncio, os, subprocess, sys, aipc
def mount(kind, place, *options):
    subprocess.run(["mount", "-t", kind, *options, "none", place], check=True)
for part in ("lower", "upper", "merged"):
    os.mkdir(part)
mount("tmpfs", "lower")
mount("tmpfs", "upper")
open("lower/lock", "w").close()
os.mkdir("upper/data")
os.mkdir("upper/work")
mount("overlay", "merged", "-o", "lowerdir=lower,upperdir=upper/data,workdir=upper/work")
async def main():
    for url in ("flock:merged/lock", "fcntl:merged/lock?shared=1", "fcntl:merged/lock", "fcntl:merged/lock?owner=process"):
        async with aipc.open_lock(url) as lock, aipc.open_lock(url.partition("?")[0]) as other:
            print(other.holder(), flush=True)
            async with lock:
                print(other.holder() == os.getpid(), flush=True)
asyncio.run(main())
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0,
    reason="mounts a file system, which takes CAP_SYS_ADMIN",
)
async def test_holder_on_overlayfs(path: Path) -> None:
    """There /proc/locks names another device than stat(2)."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", OVERLAY]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=path.parent, timeout=30)
    assert done.stdout.splitlines() == ["None", "True"] * 4, done.stderr
