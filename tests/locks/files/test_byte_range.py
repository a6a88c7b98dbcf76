"""fcntl(2) locks: ranges, sharing, upgrade and downgrade, permissions, what may be locked."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Lock
from aipc.testing.expect import settle

from ...peers import python, said

pytestmark = pytest.mark.anyio

OWNERS = pytest.mark.parametrize("owner", ["file", "process"])


@pytest.fixture
def path(place: Path) -> Path:
    return place / "lock"


def ranged(lock: Lock) -> aipc.ByteRangeLock:
    assert isinstance(lock, aipc.ByteRangeLock)
    return lock


@pytest.fixture(params=["file", "process"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    return f"fcntl:{path}?owner={request.param}"


def excludes(lock: Lock) -> bool:
    try:
        lock.acquire_nowait()
    except anyio.WouldBlock:
        return True
    lock.release()
    return False


@pytest.mark.parametrize(
    ("held", "asked", "meet"),
    [
        ((0, 0), (0, 0), True),
        ((0, 0), (1 << 60, 1), True),
        ((10, 10), (0, 10), False),
        ((10, 10), (0, 11), True),
        ((10, 10), (19, 1), True),
        ((10, 10), (20, 0), False),
        ((10, 10), (12, 2), True),
        ((10, -10), (9, 1), True),
        ((10, -10), (10, 1), False),
        ((10, 0), (9, -9), False),
        (((1 << 63) - 1, 1), (0, 0), True),
        (((1 << 63) - 1, 1), (0, (1 << 63) - 1), False),
    ],
)
async def test_ranges(held: tuple[int, int], asked: tuple[int, int], meet: bool, url: str) -> None:
    """As lockf(3) counts: length 0 to the end, a negative one backwards; bytes that are not there yet can be locked."""
    with anyio.fail_after(10):
        async with (
            aipc.open_lock(url, start=held[0], length=held[1]) as one,
            aipc.open_lock(f"{url}&start={asked[0]}&length={asked[1]}") as other,
        ):
            async with one:
                assert excludes(other) is meet
                assert other.locked() is meet
                assert other.holder() == (os.getpid() if meet else None)
            assert not excludes(other)
            assert not one.locked()


@pytest.mark.parametrize(("start", "length"), [(0, -1), (5, -6), (1 << 63, 0), (1, (1 << 63)), (1 << 70, 1)])
async def test_ranges_that_no_file_has(start: int, length: int, path: Path) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match="start="):
        await aipc.open_lock(f"fcntl:{path}", start=start, length=length)
    assert not path.exists()


@pytest.mark.parametrize("rest", ["?start=-1", "?owner=me", "?length=x", "?unlink=1"])
async def test_bad_options(rest: str, path: Path) -> None:
    with pytest.raises(aipc.AddressError):
        aipc.open_lock(f"fcntl:{path}{rest}")


async def test_shared(url: str) -> None:
    """Any number of sharers; an exclusive one waits for all of them to let go."""
    with anyio.fail_after(10):
        async with (
            aipc.open_lock(url, shared=True) as one,
            aipc.open_lock(url, shared=True) as other,
            aipc.open_lock(url) as alone,
        ):
            one.acquire_nowait()
            one.acquire_nowait()
            other.acquire_nowait()
            assert excludes(alone)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alone.acquire)
                one.release()
                other.release()
                await settle()
                with pytest.raises(RuntimeError):
                    alone.release()
                one.release()
            assert excludes(one)
            alone.release()


async def test_sharers_of_overlapping_ranges(url: str) -> None:
    """What one of them releases stays locked where another one shares it."""
    with anyio.fail_after(10):
        async with (
            aipc.open_lock(url, shared=True, start=0, length=10) as low,
            aipc.open_lock(url, shared=True, start=5, length=10) as high,
            aipc.open_lock(url, shared=True, start=7, length=1) as inner,
        ):
            for lock in (low, high, inner):
                lock.acquire_nowait()
            high.release()
            assert [byte for byte in range(16) if await taken(url, byte)] == [*range(10)]
            low.release()
            assert [byte for byte in range(16) if await taken(url, byte)] == [7]
            high.acquire_nowait()
            inner.release()
            assert [byte for byte in range(16) if await taken(url, byte)] == [*range(5, 15)]


async def taken(url: str, byte: int) -> bool:
    """Whether the kernel has a lock there: asked through an open file of its own."""
    async with aipc.open_lock(url, owner="file", start=byte, length=1) as probe:
        return probe.locked()


async def test_upgrade_and_downgrade(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(url, shared=True) as lock, aipc.open_lock(url, shared=True) as other:
            one = ranged(lock)
            async with one:
                await one.upgrade()
                await one.upgrade()  # it is already
                assert excludes(other)
                with pytest.raises(anyio.WouldBlock):
                    one.acquire_nowait()  # nor does a second task of ours share it now
                one.downgrade()
                one.downgrade()
                assert not excludes(other)
                other.acquire_nowait()
                with pytest.raises(anyio.WouldBlock):
                    one.upgrade_nowait()
                assert not excludes(other)  # still shared
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.upgrade)
                    await settle()
                    other.release()
                assert excludes(other)
            assert not excludes(other)
            async with one:
                assert not excludes(other)  # each acquire begins shared


async def test_downgrade_lets_waiting_sharers_in(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(url) as lock, aipc.open_lock(url, shared=True) as other:
            one = ranged(lock)
            await one.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.acquire)
                await settle()
                one.downgrade()
            with pytest.raises(anyio.WouldBlock):
                one.upgrade_nowait()
            other.release()
            await one.upgrade()
            assert excludes(other)
            one.release()


async def test_upgrade_of_several_holders(url: str) -> None:
    """Tasks that share one object are sharers, too: one of them waits for the others."""
    with anyio.fail_after(10):
        async with aipc.open_lock(url, shared=True) as lock, aipc.open_lock(url, shared=True) as other:
            one = ranged(lock)
            await one.acquire()
            await one.acquire()
            with pytest.raises(anyio.WouldBlock):
                one.upgrade_nowait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.upgrade)
                await settle()
                assert not excludes(other)
                one.release()
            assert excludes(other)


async def test_cancelled_upgrade_stays_shared(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(url, shared=True) as lock, aipc.open_lock(url, shared=True) as other, other, lock:
            for _ in range(5):
                with anyio.move_on_after(0.001):
                    await ranged(lock).upgrade()
                    pytest.fail("another one shares it")
            async with aipc.open_lock(url) as alone:
                other.release()
                await settle()
                assert excludes(alone)
                other.acquire_nowait()


async def test_changing_what_is_not_held(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(url) as lock:
            one = ranged(lock)
            with pytest.raises(RuntimeError, match="not held"):
                await one.upgrade()
            with pytest.raises(RuntimeError, match="not held"):
                one.downgrade()
        for call in (one.upgrade_nowait, one.downgrade):
            with pytest.raises(anyio.ClosedResourceError):
                call()


async def test_closed_under_an_upgrade(url: str) -> None:
    async def expect_closed(lock: Lock) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await ranged(lock).upgrade()

    with anyio.fail_after(10):
        async with aipc.open_lock(url, shared=True) as one, one:
            other = await aipc.open_lock(url, shared=True)
            await other.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_closed, other)
                await settle()
                await other.aclose()


async def test_both_owners_exclude_each_other(path: Path) -> None:
    """And say who: this process."""
    with anyio.fail_after(10):
        async with aipc.open_lock(f"fcntl:{path}") as ours, aipc.open_lock(f"fcntl:{path}", owner="process") as classic:
            for one, other in ((ours, classic), (classic, ours)):
                async with one:
                    assert excludes(other)
                    assert one.holder() == other.holder() == os.getpid()


def open_here(path: Path) -> int:
    """How many descriptors of the file this process has."""
    return sum(os.path.samefile(fd, path) for fd in Path("/proc/self/fd").iterdir() if fd.exists())


async def test_closing_another_lock_of_the_file_drops_no_classic_lock(path: Path) -> None:
    """Any close(2) of the file would (fcntl(2)): so ours wait until no classic lock is held."""
    with anyio.fail_after(10):
        async with aipc.open_lock(f"fcntl:{path}", owner="process", start=0, length=1) as lock:
            await lock.acquire()
            count = open_here(path)
            for url in (f"fcntl:{path}?owner=process&start=1&length=1", f"fcntl:{path}?start=2&length=1", f"flock:{path}"):
                async with aipc.open_lock(url) as other:
                    await other.acquire()
                async with aipc.open_lock(url) as other:
                    assert not other.locked()  # what closing leaves open holds nothing
                    other.acquire_nowait()
                    other.release()
                assert await taken(f"fcntl:{path}", 0)
            lock.release()
            assert open_here(path) == count
            assert not await taken(f"fcntl:{path}", 0)


async def test_mode_and_content(url: str, path: Path) -> None:
    before = os.umask(0o077)
    try:
        with anyio.fail_after(10):
            async with aipc.open_lock(url, mode=0o640) as lock:
                path.write_text("content")
                async with lock:
                    assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.read_text() == "content"
    finally:
        os.umask(before)


async def test_what_may_be_locked(path: Path) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_lock(f"fcntl:{path}", create=False)
        for url in ("fcntl:", "fcntl://host/x"):
            with pytest.raises(aipc.AddressError, match="as in fcntl:/run"):
                await aipc.open_lock(url)
        for shared in (False, True):
            with pytest.raises(aipc.WrongObject, match="directory"):
                await aipc.open_lock(f"fcntl:{path.parent}", shared=shared)
            with pytest.raises(aipc.WrongObject):
                await aipc.open_lock("fcntl:/dev/null", shared=shared)
        async with aipc.open_lock(f"fcntl:{path}", exclusive=True):
            with pytest.raises(aipc.ObjectExists):
                await aipc.open_lock(f"fcntl:{path}", exclusive=True)
        path.with_name("link").symlink_to(path)
        with pytest.raises(aipc.WrongObject, match="symbolic link"):
            await aipc.open_lock(f"fcntl:{path.with_name('link')}")


async def test_goes_on_with_the_file_that_has_the_name(url: str, path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_lock(url) as one, aipc.open_lock(url) as other, aipc.open_lock(url, create=False) as third:
            path.unlink()
            with pytest.raises(aipc.ObjectMissing):
                third.acquire_nowait()
            await one.acquire()
            assert path.exists()
            assert excludes(other)
            assert excludes(third)
            one.release()


PERMISSIONS = """
import asyncio, os, sys, aipc
opening = aipc.open_lock("fcntl:lock"), aipc.open_lock("flock:lock"), aipc.open_lock("fcntl:lock", shared=True)  # imports
if os.getuid() == 0:
    os.setuid(65534)
async def attempt(url, use):
    try:
        async with aipc.open_lock(url) as lock, lock:
            print(await use(lock) if use else "had", flush=True)
    except PermissionError as error:
        print(type(error).__name__, str(error).partition(": ")[2], flush=True)
async def downgrade(lock):
    lock.downgrade()
async def main():
    for name in ("readable", "writable", "neither"):
        await attempt(f"fcntl:{name}", None)
        await attempt(f"fcntl:{name}?shared=1", None)
    await attempt("fcntl:readable?shared=1", aipc.ByteRangeLock.upgrade)
    await attempt("fcntl:writable", downgrade)
    await attempt("flock:readable", None)
    await attempt("flock:neither", None)
asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user")
async def test_permissions() -> None:
    """A shared lock needs permission to read, an exclusive one to write; the error says which is missing."""
    exclusive = "an exclusive lock needs permission to write the file"
    shared = "a shared lock needs permission to read the file"
    expected = [exclusive, "had", "had", shared, exclusive, shared, exclusive, shared, "had", shared]
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are below one that only their owner may enter
        os.chmod(directory, 0o755)
        for name, mode in (("readable", 0o444), ("writable", 0o222), ("neither", 0)):
            path = Path(directory, name)
            path.touch()
            path.chmod(mode)
        with python(PERMISSIONS, cwd=Path(directory)) as stranger:
            lines = [said(stranger) for _ in expected]
    assert [text in line for text, line in zip(expected, lines, strict=True)] == [True] * len(expected), lines
