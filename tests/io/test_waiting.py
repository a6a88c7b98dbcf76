"""Waiting: both directions of one descriptor, what an idle wait costs, loops one after another, descriptors."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
import trio
import uvloop

import aipc
from aipc._io.loop import backend
from aipc.abc import Channel
from aipc.testing.expect import settle

from ..peers import python, run, said, tell
from ..subjects import fill, new_key, times

Main = Callable[[], Awaitable[object]]
RUNNERS: dict[str, Callable[[Main], object]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "uvloop": lambda main: uvloop.run(main()),
    "trio": trio.run,
}
LOOPS = list(RUNNERS)


async def settled() -> None:
    """Long enough for every task to park: `settle` in several goes."""
    for _ in range(5):
        await settle()


@pytest.mark.anyio
async def test_many_tasks_take_one_turn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy channel turns the loop now and then: one of ten tasks that send does it for all."""
    turns = 0
    checkpoint = backend.checkpoint

    async def counted() -> None:
        nonlocal turns
        turns += 1
        await checkpoint()

    one, other = aipc.channel_pair()
    async with one, other:
        await one.send(b"so that there is a side that sends")
        one._handle.writable.budget = 0
        monkeypatch.setattr(backend, "checkpoint", counted)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one.send, b"message")
        assert turns == 1
        assert [await other.receive() for _ in range(11)][1:] == [b"message"] * 10


@pytest.mark.anyio
async def test_both_directions_of_one_descriptor() -> None:
    """One task waits to receive, another to send; either may be ready first."""
    one, other = aipc.channel_pair()
    events: list[str] = []

    async def receive() -> None:
        events.append((await one.receive()).decode())

    async def send() -> None:
        await one.send(b"last")
        events.append("sent")

    async with one, other:
        with anyio.fail_after(10):
            for receive_first in (True, False):
                taken = fill(one, bytes(1_000))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(receive)
                    tasks.start_soon(send)
                    await settled()
                    assert events == []
                    for step in (True, False) if receive_first else (False, True):
                        if step:
                            await other.send(b"received")
                        else:
                            assert [await other.receive() for _ in range(taken)] == [bytes(1_000)] * taken
                        await settled()
                        assert len(events) == 1 + (step != receive_first)
                assert await other.receive() == b"last"
                assert events == (["received", "sent"] if receive_first else ["sent", "received"])
                events.clear()


@pytest.mark.anyio
async def test_many_tasks_wait_for_one_descriptor() -> None:
    """Each message goes to one of them, and a cancelled one takes none along."""
    one, other = aipc.channel_pair()
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await one.receive())

    async with one, other, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            for _ in range(5):
                tasks.start_soon(receive)
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(receive)
                await settled()
                impatient.cancel_scope.cancel()
            for number in range(5):
                await other.send(b"%d" % number)
                while len(got) <= number:
                    await settle()
    assert got == [b"0", b"1", b"2", b"3", b"4"]


IDLE = """
import resource, sys, time
import anyio, aipc
async def main():
    ours, theirs = aipc.channel_pair()
    async with ours, theirs, anyio.create_task_group() as tasks:
        tasks.start_soon(ours.receive)
        await anyio.sleep(0.2)
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.process_time()
        await anyio.sleep(1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before, time.process_time() - cpu, flush=True)
        tasks.cancel_scope.cancel()
loop = sys.argv[1]
anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_channel_does_not_wake_the_loop(loop: str) -> None:
    """In a second, the process sleeps once: for the clock that ends the second."""
    with python(IDLE, loop) as idle:
        switches, seconds = said(idle).split()
    assert int(switches) <= 3
    assert float(seconds) < 0.01


async def use(url: str) -> None:
    """Open, wait in both ways, and close."""
    async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:

        async def serve_one() -> None:
            async with await listener.accept() as theirs:
                await theirs.send(await theirs.receive())

        tasks.start_soon(serve_one)
        await settle()
        async with aipc.open_channel(url) as ours:
            await settle()
            await ours.send(b"x")
            assert await ours.receive() == b"x"


@pytest.mark.anyio
async def test_descriptors_stay_flat(place: Path) -> None:
    """Opening, waiting and closing many times, inside one loop: sockets, a polled queue and locks."""
    url = f"unix:{place}/socket"
    with anyio.fail_after(60):
        await use(url)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(times(40, 200)):
            await use(url)
            assert len(os.listdir("/proc/self/fd")) == before
        for _ in range(times(40, 200)):
            async with aipc.open_lock(f"flock:{place}/lock") as one, aipc.open_lock(f"flock:{place}/lock") as other:
                one.acquire_nowait()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(other.acquire)
                    await settle()
                    one.release()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.anyio
async def test_cancelled_waits_leave_no_descriptor() -> None:
    one, other = aipc.channel_pair()
    async with one, other:
        with anyio.fail_after(30):
            before = None
            for _ in range(50):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.receive)
                    await settle()
                    tasks.cancel_scope.cancel()
                before = before or len(os.listdir("/proc/self/fd"))
                assert len(os.listdir("/proc/self/fd")) == before
            await other.send(b"still works")
            assert await one.receive() == b"still works"


async def park_and_receive(ours: Channel, theirs: Channel) -> None:
    """`ours` waits for what `theirs` sends."""
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await ours.receive())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await settled()
            assert got == []
            await theirs.send(b"received")
    assert got == [b"received"]


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_one_loop_after_another(first: str, second: str) -> None:
    """A channel outlives its loop, and waits in the next one."""
    ours, theirs = aipc.channel_pair()
    RUNNERS[first](lambda: park_and_receive(ours, theirs))
    RUNNERS[second](lambda: park_and_receive(ours, theirs))
    RUNNERS[first](lambda: park_and_receive(theirs, ours))
    ours.close()
    theirs.close()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_another_channel_first_in_the_next_loop(first: str, second: str) -> None:
    """What one channel left in a loop that is over is no other's concern, nor in its own way."""
    ours, theirs = aipc.channel_pair()
    left, right = aipc.channel_pair()
    RUNNERS[first](lambda: park_and_receive(ours, theirs))
    RUNNERS[second](lambda: park_and_receive(left, right))
    RUNNERS[second](lambda: park_and_receive(ours, theirs))
    RUNNERS[first](lambda: park_and_receive(left, right))
    for channel in (ours, theirs, left, right):
        channel.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_in_no_loop(loop: str) -> None:
    """After another loop has run, too."""
    ours, theirs = aipc.channel_pair()
    left, right = aipc.channel_pair()
    RUNNERS[loop](lambda: park_and_receive(ours, theirs))
    RUNNERS[loop](lambda: park_and_receive(left, right))
    for channel in (ours, theirs, left, right):
        channel.close()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_polling_in_one_loop_after_another(first: str, second: str) -> None:
    """A queue without a descriptor, likewise."""
    key = new_key()
    opened: list[Channel] = []

    async def open_queue() -> None:
        opened.append(await aipc.open_channel(f"sysv-mq:{key}", exclusive=True, unlink=True))

    async def close() -> None:
        await opened[0].aclose()

    RUNNERS[first](open_queue)
    for loop in (first, second, first):
        RUNNERS[loop](lambda: park_and_receive(opened[0], opened[0]))
    RUNNERS[second](close)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_loop_ends_while_a_task_waits(loop: str) -> None:
    """`asyncio.run` cancels it; the next loop finds the channel as good as new."""
    ours, theirs = aipc.channel_pair()

    async def abandon() -> None:
        task = asyncio.create_task(ours.receive())
        await settled()
        assert not task.done()

    RUNNERS[loop](abandon)
    RUNNERS[loop](lambda: park_and_receive(ours, theirs))
    ours.close()
    theirs.close()


LOADED = """
import sys, aipc
for name in sys.argv[1:]:
    getattr(aipc, name)
print(*sorted({"trio", "uvloop", "sysv_ipc", "posix_ipc", "aipc.testing"} & set(sys.modules)))
"""


def test_importing_is_cheap() -> None:
    """No loop but the user's is imported, and no mechanism but the one that is opened."""
    assert run(sys.executable, "-c", LOADED).split() == []
    assert run(sys.executable, "-c", LOADED, "open_channel").split() == []
    assert run(sys.executable, "-c", LOADED, "ObjectMissing").split() == []


UNIX_ONLY = """
import asyncio, sys, aipc
async def main():
    async with aipc.listen(sys.argv[1]), aipc.open_channel(sys.argv[1]) as channel:
        await channel.send(b"x")
asyncio.run(main())
print(*sorted({"trio", "uvloop", "sysv_ipc", "posix_ipc"} & set(sys.modules)))
"""


def test_using_one_mechanism_on_asyncio_imports_no_other(place: Path) -> None:
    assert run(sys.executable, "-c", UNIX_ONLY, f"unix:{place}/socket").split() == []


WAIT = """
import asyncio, sys, aipc
async def main():
    channel = await aipc.open_channel(sys.argv[1], framing="lines")
    async for line in channel:
        print(line.decode(), flush=True)
    print("end", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


@pytest.mark.anyio
async def test_killed_peer_wakes_a_waiting_task(place: Path) -> None:
    url = f"unix:{place}/socket"
    ended: list[bool] = []

    async def receive(channel: Channel) -> None:
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
        ended.append(True)

    with anyio.fail_after(20):
        async with aipc.listen(url, framing="lines") as listener:
            with python(WAIT, url) as peer:
                async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                    tasks.start_soon(receive, channel)
                    await channel.send(b"hello")
                    assert said(peer) == "hello"
                    await channel.send_eof()
                    assert said(peer) == "end"
                    assert ended == []
                    peer.kill()
            assert ended == [True]


def test_helper_processes_can_be_talked_to() -> None:
    """Of `tests.peers`, on which much here relies."""
    with python("print(input()[::-1], flush=True)") as peer:
        tell(peer, "abc")
        assert said(peer) == "cba"
        assert said(peer) == ""
