"""What `repr` tells of an object's state: open, closed, in a forked child, and while tasks wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc import rpc
from aipc.testing.expect import in_child, settle, until

from ..processes import functions
from ..subjects import CHANNELS, LOCKS, new_key, new_name

pytestmark = pytest.mark.anyio


def in_a_fork(thing: object) -> None:
    """A forked child's copy: `repr` raises nothing there, and says why nothing else works."""

    def look() -> None:
        text = repr(thing)
        assert "opened before fork(2)" in text, text

    in_child(look)


@pytest.mark.parametrize("kind", CHANNELS)
async def test_channels(kind: str, place: Path) -> None:
    async with CHANNELS[kind](place).open_pair() as (ours, theirs):
        for channel in (ours, theirs):
            assert ": open" in repr(channel)
            in_a_fork(channel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(theirs.receive)
            await until(lambda: "redis" in kind or "1 task waits" in repr(theirs))
            tasks.cancel_scope.cancel()
        await until(lambda: "waits" not in repr(theirs))
    for channel in (ours, theirs):
        assert ": closed" in repr(channel)


@pytest.mark.parametrize("kind", LOCKS)
async def test_locks(kind: str, place: Path) -> None:
    async with LOCKS[kind](place).open_two() as (one, other):
        for lock in (one, other):
            assert ": open" in repr(lock)
        in_a_fork(one)
        free = repr(one)
        async with one, anyio.create_task_group() as tasks:
            assert repr(one) != free
            assert "held" in repr(one)
            tasks.start_soon(other.acquire)
            await until(lambda: "1 task waits for it" in repr(other))
            tasks.cancel_scope.cancel()
        assert repr(one) == free
    assert ": closed" in repr(one)
    assert "value" not in repr(one)


def fill(channel: aipc.Channel) -> None:
    while True:
        channel.send_nowait(bytes(10_000))


async def test_a_socket_tells_its_peer_and_what_it_does_not_read(place: Path) -> None:
    async with aipc.listen(f"unix:{place}/socket") as listener:
        assert repr(listener) == f"<SocketListener unix:{place}/socket: open>"
        async with aipc.open_channel(f"unix:{place}/socket") as ours, await listener.accept() as theirs:
            assert repr(ours) == f"<UnixChannel unix:{place}/socket: open, peer {os.getpid()}>"
            assert ours._handle._sock is None  # type: ignore[attr-defined] # it costs an idle connection no memory
            with pytest.raises(anyio.WouldBlock):
                fill(ours)
            assert "bytes that it sent" in repr(ours)
            assert "bytes that it sent" not in repr(theirs)
            await ours.aclose()
            await theirs.receive_many()
        assert repr(ours) == f"<UnixChannel unix:{place}/socket: closed>"
    assert repr(listener) == f"<SocketListener unix:{place}/socket: closed>"


async def test_an_end_of_the_stream() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        await ours.send_eof()
        assert "this side has ended its stream" in repr(ours)
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        assert "the other side has ended its stream" in repr(theirs)


async def test_a_server_tells_its_connections(place: Path) -> None:
    async def wait(channel: aipc.Channel) -> None:
        await channel.receive()

    async with aipc.listen(f"unix:{place}/socket") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, wait)
        async with aipc.open_channel(f"unix:{place}/socket"):
            await until(lambda: "1 connection, 1 task waits to accept" in repr(listener))
            assert listener.connections == 1
        tasks.cancel_scope.cancel()


async def test_queues_tell_their_fill() -> None:
    for url in (f"sysv-mq:{new_key()}", f"posix-mq:{new_name()}"):
        async with aipc.open_channel(url, create=True, unlink=True) as queue:
            assert repr(queue).endswith(f" {url}: open, empty>")
            await queue.send(b"one")
            assert repr(queue).endswith(f" {url}: open, 1 message>")


async def test_what_is_not_open_yet() -> None:
    assert repr(aipc.open_channel("unix:/none")) == "<Opening unix:/none: not open yet>"
    assert repr(aipc.open_lock("redis://u:secret@none/a")) == "<Opening redis://u:***@none/a: not open yet>"
    assert repr(aipc.popen("cat")) == "<Opening popen (cat): not open yet>"
    assert repr(aipc.Event("/none")) == "<Event sysv-sem:/none: not open yet>"
    assert "pipeline (ls | wc)" in repr(aipc.pipeline("ls", "wc"))


async def test_primitives(key: str) -> None:
    async with aipc.Event(key, unlink=True) as event:
        assert repr(event) == f"<Event sysv-sem:{key}: open, clear>"
        event.set()
        assert repr(event) == f"<Event sysv-sem:{key}: open, set>"
        in_a_fork(event)
        event.remove()
        assert repr(event) == f"<Event sysv-sem:{key}: open>"
    assert repr(event) == f"<Event sysv-sem:{key}: closed>"
    async with aipc.Barrier(key, parties=3, unlink=True) as barrier, anyio.create_task_group() as tasks:
        tasks.start_soon(barrier.wait)
        await until(lambda: repr(barrier) == f"<Barrier sysv-sem:{key}: open, 1 of 3 parties wait, 1 task waits>")
        tasks.cancel_scope.cancel()
    async with aipc.Condition(key, unlink=True) as condition:
        assert "not held" in repr(condition)
        async with condition:
            assert "held by this object" in repr(condition)
    async with aipc.RWLock(key, unlink=True) as lock, lock.reader, anyio.create_task_group() as tasks:
        tasks.start_soon(lock.writer.acquire)
        await until(lambda: "held by 1 reader, waited for by 1 writer, 1 task waits" in repr(lock))
        assert "reader of <RWLock" in repr(lock.reader)
        tasks.cancel_scope.cancel()
    async with aipc.SysVSemaphoreSet(key, values=[1, 2], create=True, unlink=True) as row:
        assert repr(row) == f"<SysVSemaphoreSet sysv-sem:{key}: open, values [1, 2]>"


def test_segments(place: Path) -> None:
    with aipc.SharedMemory.create(new_name(), 4096, unlink=True) as segment:
        assert repr(segment).endswith(": open, 4,096 bytes>")
        in_a_fork(segment)
    assert repr(segment).endswith(": closed, 4,096 bytes>")
    with aipc.Snapshot.create(name := new_name(), 10, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
        assert repr(writer).endswith(": open, its writer, no value yet>")
        writer.publish(b"one")
        assert repr(reader).endswith(": open, a reader, 1 value so far>")
    assert repr(reader).endswith(": closed, a reader>")


async def test_children() -> None:
    async with aipc.popen("cat", "r+") as child:
        assert repr(child) == f"<ProcessChannel popen (cat) (stdout): open, pid {child.pid} running>"
    assert repr(child) == f"<ProcessChannel popen (cat) (stdout): closed, pid {child.pid} exit status 0>"
    async with aipc.pipeline("cat", "cat") as both:
        assert repr(both) == f"<Pipeline: {both.pids[0]} running, {both.pids[1]} running>"
    async with aipc.spawn_pool(1, functions.answer) as pool:
        await pool.wait_ready()
        assert repr(pool) == f"<Pool: open, 1 worker [{pool.workers[0].pid}], 0 busy>"
        in_a_fork(pool)
        assert repr(pool.workers[0]).endswith(f"pid {pool.workers[0].pid}, running>")


async def test_services(place: Path) -> None:
    async with AsyncExitStack() as stack:

        async def entered(opening: Any) -> Any:
            return await stack.enter_async_context(opening)

        publisher = await entered(aipc.open_publisher(f"unix:{place}/topics"))
        assert repr(publisher).endswith(": open, no subscriber>")
        subscriber = await entered(aipc.open_subscriber(f"unix:{place}/topics"))
        await publisher.wait_subscribers()
        assert repr(publisher).endswith(": open, 1 subscriber>")
        assert repr(subscriber).endswith(": connected>")
        in_a_fork(publisher)
        jobs = await entered(aipc.open_channel(f"jobs:{place}/jobs", create=True))
        await jobs.send(b"one")
        async with jobs.lease():
            assert repr(jobs).endswith(": open, 1 leased job>")
        ours, theirs = aipc.channel_pair("stream")
        await entered(theirs)
        client = await entered(rpc.connect(ours))
        tasks = await entered(anyio.create_task_group())
        tasks.start_soon(client.call, "wait")
        await settle()
        assert repr(client).endswith(": 1 unanswered call>")
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "half_made", [aipc.SysVQueueChannel, aipc.Subscriber, aipc.Snapshot, aipc.Event, aipc.Pool, aipc.ProcessChannel]
)
def test_an_object_that_is_only_half_made(half_made: type[Any]) -> None:
    make: Callable[[], object] = lambda: half_made.__new__(half_made)  # noqa: E731
    assert repr(make()).startswith(f"<{half_made.__name__}")
