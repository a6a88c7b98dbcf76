"""Doorbells: the waiters here pause for an hour between two looks, so that only a ring can have woken them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io import polling
from aipc.testing.expect import settle

from ..peers import compile_peer, process, python, run, said, tell
from ..subjects import fill, new_key, new_name

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]

CHILD = """
import contextlib, gc, os, sys
import anyio, aipc
from aipc._io import polling

def hour():
    polling.FIRST_PAUSE = polling.LONG_PAUSE = polling.LONGEST_PAUSE = 3600.0

def parked():
    return any(isinstance(it, polling.Polling) and it.awaited for it in gc.get_objects())

def start(loop, main):
    anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})

async def enter(stack, text):
    it = eval(text)
    return stack.enter_context(it) if hasattr(it, "__enter__") else await stack.enter_async_context(it)
"""
WAITER = (
    CHILD
    + """
async def main():
    async with contextlib.AsyncExitStack() as stack:
        it = await enter(stack, sys.argv[2])
        async def wait():
            for text in sys.argv[3:]:
                try:
                    print(await eval(text, {"it": it}), flush=True)
                except Exception as error:
                    print(type(error).__name__, flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not parked():
                await anyio.sleep(0)
            print("parked", flush=True)
hour()
start(sys.argv[1], main)
"""
)


def loop_of(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    name, options = anyio_backend
    return "uvloop" if options else name


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
    for pause in ("FIRST_PAUSE", "LONG_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(polling, pause, 3600.0)
    url = f"flock:{place}/lock"
    with python(RELEASER, loop_of(anyio_backend), url) as releaser:
        assert said(releaser) == "acquired"
        async with aipc.open_lock(url) as ours:
            handle = ours._handle  # type: ignore[attr-defined]
            handle.polling._skip = 1  # park at once

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
    polling.announce()
    polling.announce(1)
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
