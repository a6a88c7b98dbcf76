"""flock(2) locks: sharing, what may be a lock file, and flock(1) as the other process."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...peers import process, said

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(place: Path) -> Path:
    return place / "lock"


@contextmanager
def held_by_flock(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A flock(1) that holds the lock until its standard input ends."""
    with process("flock", *options, str(path), "sh", "-c", "echo held; exec cat") as holder:
        assert said(holder) == "held"
        yield holder


def flock_gets_it(path: Path, *options: str) -> bool:
    """Whether flock(1) can have the lock now."""
    command = ["flock", "--nonblock", "--conflict-exit-code", "75", *options, str(path), "true"]
    done = subprocess.run(command, check=False, timeout=10)
    assert done.returncode in (0, 75)
    return done.returncode == 0


async def test_shared(path: Path) -> None:
    """Any number of sharers; an exclusive one waits for all of them to let go."""
    url = f"flock:{path}"
    with anyio.fail_after(10):
        async with (
            aipc.open_lock(url, shared=True) as one,
            aipc.open_lock(url + "?shared=1") as other,
            aipc.open_lock(url) as alone,
        ):
            one.acquire_nowait()
            other.acquire_nowait()
            with pytest.raises(anyio.WouldBlock):
                alone.acquire_nowait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alone.acquire)
                one.release()
                await settle()
                with pytest.raises(RuntimeError):
                    alone.release()
                other.release()
            with pytest.raises(anyio.WouldBlock):
                one.acquire_nowait()
            alone.release()


async def test_tasks_share_one_object(path: Path) -> None:
    """It is free when the last of them has released it."""
    url = f"flock:{path}"
    with anyio.fail_after(10):
        async with aipc.open_lock(url, shared=True) as shared, aipc.open_lock(url) as alone:
            await shared.acquire()
            await shared.acquire()
            shared.release()
            with pytest.raises(anyio.WouldBlock):
                alone.acquire_nowait()
            shared.release()
            alone.acquire_nowait()
            with pytest.raises(RuntimeError):
                shared.release()


async def test_flock_waits_for_us(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}") as lock:
            assert flock_gets_it(path)
            async with lock:
                assert not flock_gets_it(path)
                assert not flock_gets_it(path, "--shared")
            assert flock_gets_it(path)
        async with aipc.open_lock(f"flock:{path}", shared=True) as lock, lock:
            assert not flock_gets_it(path)
            assert flock_gets_it(path, "--shared")


async def test_we_wait_for_flock(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}") as lock:
            with held_by_flock(path) as holder:
                with pytest.raises(anyio.WouldBlock):
                    lock.acquire_nowait()
                assert lock.locked()
                assert lock.holder() == holder.pid
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lock.acquire)
                    await settle()
                    assert lock.holder() == holder.pid
                    assert holder.stdin is not None
                    holder.stdin.close()
            assert lock.holder() == os.getpid()


async def test_we_share_with_flock(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}", shared=True) as shared, aipc.open_lock(f"flock:{path}") as alone:
            with held_by_flock(path, "--shared") as holder:
                async with shared:
                    with pytest.raises(anyio.WouldBlock):
                        alone.acquire_nowait()
                assert alone.holder() == holder.pid


async def test_symbolic_link_is_refused(path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    for _ in ("dangling", "to a file"):
        for create in (True, False):
            with anyio.fail_after(10), pytest.raises(aipc.WrongObject, match="symbolic link"):
                await aipc.open_lock(f"flock:{path}", create=create)
        target.touch()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("what", ["directory", "FIFO", "socket", "device"])
async def test_no_plain_file_is_refused(what: str, create: bool, path: Path) -> None:
    """And none of them blocks."""
    if what == "directory":
        path.mkdir()
    elif what == "FIFO":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path = Path("/dev/null")
    with anyio.fail_after(10), pytest.raises(aipc.WrongObject):
        await aipc.open_lock(f"flock:{path}", create=create)


async def test_missing_file(path: Path) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(f"flock:{path}", create=False)
        assert not path.exists()
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(f"flock:{path}/below")


async def test_exclusive(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}", exclusive=True), aipc.open_lock(f"flock:{path}", create=False):
            with pytest.raises(aipc.ObjectExists, match="exclusive"):
                await aipc.open_lock(f"flock:{path}", exclusive=True)


@pytest.mark.parametrize("mask", [0o077, 0], ids=oct)
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o640], ids=oct)
async def test_mode(mode: int, mask: int, path: Path) -> None:
    """A new file's is exact; a file that is there keeps its own."""
    before = os.umask(mask)
    try:
        with anyio.fail_after(10):
            async with aipc.open_lock(f"flock:{path}", mode=mode), aipc.open_lock(f"flock:{path}", mode=0o604):
                assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


async def test_content_and_file_stay(path: Path) -> None:
    path.write_text("content")
    before = path.stat()
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}") as lock, lock:
            pass
    assert os.path.samestat(path.stat(), before)
    assert path.read_text() == "content"


async def test_read_only_file(path: Path) -> None:
    path.touch(mode=0o400)
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}") as lock, lock:
            assert not flock_gets_it(path)


@pytest.mark.parametrize("url", ["flock:/tmp/x?index=1", "flock:/tmp/x?value=2"])
async def test_unknown_option(url: str) -> None:
    with pytest.raises(aipc.AddressError, match=r"unknown option.*flock takes create, exclusive, mode, shared, unlink"):
        aipc.open_lock(url)


@pytest.mark.parametrize("url", ["flock:", "flock://host/tmp/x"])
async def test_no_path(url: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match="needs a path"):
        await aipc.open_lock(url)


async def test_removed_file_does_not_let_two_in_by_one_object(path: Path) -> None:
    """Whoever removes a lock file gets two locks: ours is the one that it was opened as, held until it is released."""
    with anyio.fail_after(10):
        async with aipc.open_lock(f"flock:{path}") as lock, lock:
            path.unlink()
            assert lock.locked()
            assert lock.holder() == os.getpid()
            with pytest.raises(anyio.WouldBlock):
                lock.acquire_nowait()
            async with aipc.open_lock(f"flock:{path}") as other:
                other.acquire_nowait()


async def test_unlink_when_nobody_holds_it(place: Path) -> None:
    path = place / "lock"
    async with aipc.open_lock(f"flock:{path}", unlink=True), aipc.open_lock(f"flock:{path}") as other:
        await other.acquire()
        async with aipc.open_lock(f"flock:{path}", unlink=True):
            pass
        assert path.exists()
        other.release()
    assert not path.exists()


async def test_goes_on_with_the_file_that_has_the_name(place: Path) -> None:
    """Two processes hold "the" lock on two files only if they look away."""
    path = place / "lock"
    async with aipc.open_lock(f"flock:{path}") as one, aipc.open_lock(f"flock:{path}") as other:
        path.unlink()
        await one.acquire()
        assert path.exists()
        with pytest.raises(anyio.WouldBlock):
            other.acquire_nowait()
        one.release()
