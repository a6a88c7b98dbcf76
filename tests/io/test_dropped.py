"""What is dropped without being closed gives its descriptor back with a ResourceWarning, also if it was waited for once."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io.handle import FileHandle
from aipc.testing.expect import settle, until
from aipc.testing.leaks import descriptors

from ..subjects import new_key, new_name
from ..transports.streams import STREAMS, opened
from .test_waiting import LOOPS, RUNNERS

TIMES = 10

Make = Callable[[], Awaitable[list]]
Use = Callable[[list], Awaitable[None]]


async def wait_in_vain(operation: Callable[[], Awaitable[object]]) -> None:
    """It parks, and is cancelled."""
    with anyio.move_on_after(0.005) as scope:
        await operation()
    assert scope.cancelled_caught


async def dropped(make: Make, use: Use, kept: int = 0) -> list[str]:
    """Make objects, use them and drop them, several times: what the warnings say, when no more descriptors are left than are `kept`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        before = descriptors()
        for _ in range(TIMES):
            things = await make()
            await use(things)
            del things
        await until(lambda: (gc.collect(), len(descriptors() - before))[1] == kept * TIMES)
    return [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]


@asynccontextmanager
async def waits_of_others(place: Path) -> AsyncIterator[None]:
    """One of each kind, so that what belongs to the loop is there, and stays; a lock that others wait for."""
    one, other = aipc.channel_pair()
    url = f"flock:{place}/other"
    async with one, other, aipc.open_lock(url) as held, aipc.open_lock(url) as wanted:
        await held.acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.receive)
            tasks.start_soon(wanted.acquire)
            await settle()  # they wait, however busy the machine is
            async with aipc.open_lock(url) as another:
                await wait_in_vain(another.acquire)
            yield
            tasks.cancel_scope.cancel()


def check(loop: str, place: Path, make: Make, use: Use, objects: int = 1, kept: int = 0) -> None:
    """As `dropped`, on that loop, with one warning for each of so many objects."""

    async def main() -> None:
        async with waits_of_others(place):
            said = await dropped(make, use, kept)
        assert len(said) == objects * TIMES
        assert all("never closed" in text for text in said)

    RUNNERS[loop](main)


async def unused(_: list) -> None: ...


async def receive_in_vain(channels: list) -> None:
    await wait_in_vain(channels[-1].receive)


@pytest.mark.parametrize("use", [unused, receive_in_vain])
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("loop", LOOPS)
def test_dropped_stream(loop: str, kind: str, use: Use, place: Path) -> None:
    async def make() -> list:
        (place / "socket").unlink(missing_ok=True)
        return list(await opened(kind, place))

    check(loop, place, make, use, 2)


@pytest.mark.parametrize("use", [unused, receive_in_vain])
@pytest.mark.parametrize("kind", ["stream", "seqpacket", "dgram", "shm"])
@pytest.mark.parametrize("loop", LOOPS)
def test_dropped_pair(loop: str, kind: str, use: Use, place: Path) -> None:
    """The other end lives on, and does not wake the loop by its own end."""
    kept: list = []

    async def make() -> list:
        ours, theirs = aipc.channel_pair(kind)
        kept.append(theirs)
        return [ours]

    check(loop, place, make, use, kept=2 if kind == "shm" else 1)
    for theirs in kept:
        theirs.close()


@pytest.mark.parametrize("use", [unused, receive_in_vain])
@pytest.mark.parametrize("kind", ["posix-mq", "fifo", "udp"])
@pytest.mark.parametrize("loop", LOOPS)
def test_dropped_queue(loop: str, kind: str, use: Use, place: Path) -> None:
    """A System V queue has no descriptor, and gives back nothing."""
    url = {"posix-mq": f"posix-mq:{new_name()}", "fifo": f"fifo:{place}/fifo", "udp": "udp:?bind=127.0.0.1:0"}[kind]

    async def make() -> list:
        options = {"udp": {}, "fifo": {"create": True, "direction": "receive"}, "posix-mq": {"create": True}}[kind]
        return [await aipc.open_channel(url, **options)]

    check(loop, place, make, use)
    if kind == "posix-mq":
        aipc.remove_object("posix-mq", url.partition(":")[2])


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", ["flock", "fcntl", "fcntl-process"])
@pytest.mark.parametrize("loop", LOOPS)
def test_dropped_lock(loop: str, kind: str, waits: bool, place: Path) -> None:
    """Semaphores, likewise, have none."""
    url = {"fcntl-process": f"fcntl:{place}/lock?owner=process"}.get(kind, f"{kind}:{place}/lock")

    async def make() -> list:
        return [await aipc.open_lock(url)]

    async def acquire_in_vain(locks: list) -> None:
        async with aipc.open_lock(url) as holder:
            await holder.acquire()
            await wait_in_vain(locks[0].acquire)

    check(loop, place, make, acquire_in_vain if waits else unused)


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
@pytest.mark.anyio
async def test_dropped_lock_is_released(kind: str, place: Path) -> None:
    """As it would be at the process's end."""
    url = f"{kind}:{place}/lock"
    async with aipc.open_lock(url) as other:
        lock = await aipc.open_lock(url)
        await lock.acquire()
        with pytest.raises(anyio.WouldBlock):
            other.acquire_nowait()
        del lock
        with pytest.warns(ResourceWarning, match="never closed"):
            gc.collect()
        other.acquire_nowait()


@pytest.mark.parametrize("loop", LOOPS)
def test_dropped_waits_of_objects_without_a_descriptor(loop: str, place: Path) -> None:
    """Nothing of the loop's own grows with them, and nothing is left of it."""
    key = new_key()

    async def main() -> None:
        async with (
            aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True),
            aipc.open_lock(f"sysv-sem:{key}", exclusive=True, unlink=True) as semaphore,
            waits_of_others(place),
        ):
            await semaphore.acquire()
            before = descriptors()
            for _ in range(TIMES):
                await wait_in_vain((await aipc.open_channel(f"sysv-mq:{key}")).receive)
                await wait_in_vain((await aipc.open_lock(f"sysv-sem:{key}")).acquire)
            gc.collect()
            assert descriptors() == before

    async def next_loop() -> None:
        async with waits_of_others(place):
            pass

    RUNNERS[loop](main)
    RUNNERS[loop](next_loop)


def test_a_handle_that_was_only_half_made() -> None:
    """Its constructor failed: it has no descriptor to warn of."""
    FileHandle.__new__(FileHandle).__del__()
