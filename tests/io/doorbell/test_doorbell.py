"""Doorbells: the waiters here pause for an hour between two looks, so that only a ring can have woken them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import aipc

from ...peers import python, said
from ...subjects import fill, new_key, new_name
from ..waiters import WAITER, loop_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]

Case = tuple[str, list[str], Callable[[], object], str]
"""What the other process opens as `it`, what it awaits, what wakes it, and what it then says."""


@asynccontextmanager
async def received(place: Path) -> AsyncIterator[Case]:
    key = new_key()
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True) as queue:
        yield f"aipc.open_channel('sysv-mq:{key}')", ["it.receive()"], lambda: queue.send_nowait(b"x"), "b'x'"


@asynccontextmanager
async def room_to_send(place: Path) -> AsyncIterator[Case]:
    key = new_key()
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True) as queue:
        fill(queue, bytes(8_000))
        yield f"aipc.open_channel('sysv-mq:{key}')", ["it.send(bytes(8000))"], queue.receive_nowait, "None"


@asynccontextmanager
async def larger_queue(place: Path) -> AsyncIterator[Case]:
    key = new_key()
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True, max_bytes=1_000) as queue:
        fill(queue, bytes(1_000))
        wider = lambda: queue.change(max_bytes=2_000)  # type: ignore[attr-defined] # noqa: E731
        yield f"aipc.open_channel('sysv-mq:{key}')", ["it.send(bytes(1000))"], wider, "None"


@asynccontextmanager
async def removed_queue(place: Path) -> AsyncIterator[Case]:
    key = new_key()
    async with aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True) as queue:
        yield f"aipc.open_channel('sysv-mq:{key}')", ["it.receive()"], queue.close, "ObjectRemoved"


def lock(scheme: str, options: str = "") -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    """A lock that is released in the one process, and acquired in the other."""

    @asynccontextmanager
    async def case(place: Path) -> AsyncIterator[Case]:
        name = new_name() if scheme == "posix-sem" else new_key() if scheme == "sysv-sem" else f"{place}/lock"
        made = {} if scheme in ("flock", "fcntl") else {"create": True, "unlink": True}
        async with aipc.open_lock(f"{scheme}:{name}{options}", **made) as ours:
            ours.acquire_nowait()
            yield f"aipc.open_lock('{scheme}:{name}{options}')", ["it.acquire()"], ours.release, "None"

    return case


@asynccontextmanager
async def closed_lock(place: Path) -> AsyncIterator[Case]:
    async with aipc.open_lock(f"flock:{place}/lock") as ours:
        ours.acquire_nowait()
        yield f"aipc.open_lock('flock:{place}/lock')", ["it.acquire()"], ours._handle.close, "None"  # type: ignore[attr-defined]


@asynccontextmanager
async def upgraded(place: Path) -> AsyncIterator[Case]:
    async with aipc.open_lock(f"fcntl:{place}/lock", shared=True) as ours:
        ours.acquire_nowait()
        waits = ["it.acquire()", "it.upgrade()"]
        yield f"aipc.open_lock('fcntl:{place}/lock', shared=True)", waits, ours.release, "None"


@asynccontextmanager
async def downgraded(place: Path) -> AsyncIterator[Case]:
    async with aipc.open_lock(f"fcntl:{place}/lock") as ours:
        assert isinstance(ours, aipc.ByteRangeLock)
        await ours.acquire()
        yield f"aipc.open_lock('fcntl:{place}/lock', shared=True)", ["it.acquire()"], ours.downgrade, "None"


def zero(url: Callable[[], str], **options: object) -> Callable[[Path], AbstractAsyncContextManager[Case]]:
    """A semaphore that the one process takes, so that the other one sees it at zero."""

    @asynccontextmanager
    async def case(place: Path) -> AsyncIterator[Case]:
        at = url()
        async with aipc.open_lock(at, exclusive=True, unlink=True, **options) as ours:
            yield f"aipc.open_lock({at!r})", ["it.wait_zero()"], ours.acquire_nowait, "None"

    return case


def semaphore_set(waits: str, provide: Callable[[aipc.SysVSemaphoreSet], object]) -> Callable[[Path], object]:
    """A set of 1 and 0, in both processes."""

    @asynccontextmanager
    async def case(place: Path) -> AsyncIterator[Case]:
        key = new_key()
        async with aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1, 0]) as row:
            yield f"aipc.SysVSemaphoreSet({key!r})", [waits], lambda: provide(row), "None"

    return case


def one_of_set(waits: str, provide: Callable[[aipc.SysVSemaphoreSet], object]) -> Callable[[Path], object]:
    """The same set; the other process has its first semaphore open, as a lock."""

    @asynccontextmanager
    async def case(place: Path) -> AsyncIterator[Case]:
        key = new_key()
        async with aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[0, 1]) as row:
            yield (
                f"aipc.open_lock('sysv-sem:{key}?index=%d&undo=0')" % (waits == "it.wait_zero()"),
                [waits],
                lambda: provide(row),
                "None",
            )

    return case


def set_beside(waits: str, index: int, call: str) -> Callable[[Path], object]:
    """The other process has the set, this one a semaphore of it."""

    @asynccontextmanager
    async def case(place: Path) -> AsyncIterator[Case]:
        key = new_key()
        async with (
            aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1, 0]),
            aipc.open_lock(f"sysv-sem:{key}", index=index, undo=False) as ours,
        ):
            yield f"aipc.SysVSemaphoreSet({key!r})", [waits], getattr(ours, call), "None"

    return case


@asynccontextmanager
async def changed(place: Path) -> AsyncIterator[Case]:
    name = new_name()
    with aipc.Snapshot.create(name, 100, unlink=True) as writer:
        yield f"aipc.Snapshot.open({name!r})", ["it.changed()"], lambda: writer.publish(b"new"), "b'new'"


CASES = {
    "sysv-mq": received,
    "sysv-mq-room": room_to_send,
    "sysv-mq-larger": larger_queue,
    "sysv-mq-removed": removed_queue,
    "flock": lock("flock"),
    "flock-closed": closed_lock,
    "fcntl": lock("fcntl"),
    "fcntl-process": lock("fcntl", "?owner=process"),
    "fcntl-upgrade": upgraded,
    "fcntl-downgrade": downgraded,
    "sysv-sem": lock("sysv-sem"),
    "sysv-sem-zero": zero(lambda: f"sysv-sem:{new_key()}"),
    "set-raised": semaphore_set("it.operate([(1, -1)])", lambda row: row.operate_nowait([(1, 1)])),
    "set-zero": semaphore_set("it.operate([(0, 0)])", lambda row: row.operate_nowait([(0, -1)])),
    "set-values": semaphore_set("it.operate([(1, -3)])", lambda row: row.set_values([0, 3])),
    "set-value": semaphore_set("it.operate([(0, -1), (1, -3)])", lambda row: row.set_value(1, 3)),
    "set-wakes-one": one_of_set("it.acquire()", lambda row: row.operate_nowait([(0, 1)])),
    "set-wakes-zero": one_of_set("it.wait_zero()", lambda row: row.operate_nowait([(1, -1)])),
    "one-wakes-set": set_beside("it.operate([(1, -1)])", 1, "release"),
    "one-wakes-set-zero": set_beside("it.operate([(0, 0)])", 0, "acquire_nowait"),
    "posix-sem": lock("posix-sem"),
    "posix-sem-zero": zero(lambda: f"posix-sem:{new_name()}"),
    "posix-sem-robust": lock("posix-sem", "?robust=1"),
    "snapshot": changed,
}


@pytest.mark.parametrize("name", CASES)
async def test_woken_by_the_other_process(name: str, place: Path, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """Whatever is waited for, whoever provides it rings."""
    async with CASES[name](place) as (opened, waits, provide, outcome):  # type: ignore[attr-defined]
        with python(WAITER, loop_of(anyio_backend), opened, *waits) as waiter:
            for _ in waits[1:]:
                assert said(waiter) == "None"
            assert said(waiter) == "parked"
            provide()
            assert said(waiter) == outcome
