"""What aipc has in each loop, when the kernel refuses to watch, in several threads, and after a loop that was closed amid a wait."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

import anyio
import pytest
import uvloop

import aipc
from aipc.testing.expect import settle

from ..seccomp import refuse_from_now_on
from .test_waiting import LOOPS, RUNNERS, park_and_receive

Refuse = Callable[[], None]
HUGE = bytes(1_000_000)
THREADS = 12
ASYNCIOS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def sets() -> set[int]:
    """This process's epoll sets."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists the directory
            if os.readlink(f"/proc/self/fd/{number}") == "anon_inode:[eventpoll]":
                found.add(int(number))
    return found


def refused(loop: str, scenario: Callable[[Refuse], Awaitable[None]]) -> None:
    """Run it in a thread with a loop, in which a channel waits anyhow. It says from when on aipc's set there takes no more.

    As the kernel does over fs.epoll.max_user_watches. trio watches by itself.
    """

    async def main() -> None:
        before = sets()
        one, other = aipc.channel_pair()
        async with one, other, anyio.create_task_group() as tasks:
            with anyio.fail_after(10):
                tasks.start_soon(one.receive)
                await settle()
                (ours,) = sets() - before
                await scenario(partial(refuse_from_now_on, "epoll_ctl", ours, errno.ENOSPC))
                tasks.cancel_scope.cancel()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(RUNNERS[loop], main).result()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_wait_for_a_message(loop: str, second: str) -> None:
    """It says so, each time; another loop can wait."""
    ours, theirs = aipc.channel_pair()

    async def scenario(refuse: Refuse) -> None:
        refuse()
        for _ in range(3):
            with pytest.raises(aipc.NoSpace, match="unix pair"):
                await ours.receive()

    refused(loop, scenario)
    RUNNERS[second](lambda: park_and_receive(ours, theirs))
    ours.close()
    theirs.close()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_wait_for_room(loop: str, second: str) -> None:
    """Beside a wait for messages, which goes on. The message has begun; whoever sends next finishes it."""
    ours, theirs = aipc.channel_pair()

    async def scenario(refuse: Refuse) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.receive)
            await settle()
            refuse()
            for _ in range(2):
                with pytest.raises(aipc.NoSpace, match="unix pair"):
                    await ours.send(HUGE)
            await theirs.send(b"hello")

    async def finish() -> None:
        with anyio.fail_after(10):
            async with ours, theirs, anyio.create_task_group() as tasks:
                tasks.start_soon(ours.send, b"behind it")
                assert [await theirs.receive(), await theirs.receive()] == [HUGE, b"behind it"]

    refused(loop, scenario)
    assert ours.statistics().messages_sent == 1
    RUNNERS[second](finish)


@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_timer_and_doorbell(loop: str, place: Path) -> None:
    """A polled wait has other ways."""

    async def scenario(refuse: Refuse) -> None:
        refuse()
        async with aipc.open_lock(f"flock:{place}/lock") as one, aipc.open_lock(f"flock:{place}/lock") as other:
            await one.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.acquire)
                await settle()
                one.release()

    refused(loop, scenario)


@contextmanager
def hasty_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@asynccontextmanager
async def two(mechanism: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """What waits in vain for a message, or for a lock."""
    if mechanism == "pair":
        one, other = aipc.channel_pair()
        async with one, other:
            yield one.receive
    else:
        async with aipc.open_lock(mechanism) as one, aipc.open_lock(mechanism) as other:
            await one.acquire()
            yield other.acquire


async def wait_a_while(operation: Callable[[], Awaitable[object]]) -> None:
    with anyio.move_on_after(0.0005) as scope:
        await operation()
    assert scope.cancelled_caught


async def wait_briefly(mechanism: str) -> None:
    async with two(mechanism) as operation:
        await wait_a_while(operation)


@contextmanager
def loops_at_rest(urls: Iterable[str]) -> Iterator[None]:
    """Many more, each with something that waited there."""
    with ExitStack() as stack:
        for url in urls:
            loop = asyncio.new_event_loop()
            stack.callback(loop.close)
            waiting = two(url)
            operation = loop.run_until_complete(waiting.__aenter__())
            stack.callback(lambda loop=loop, waiting=waiting: loop.run_until_complete(waiting.__aexit__(None, None, None)))
            loop.run_until_complete(wait_a_while(operation))
        yield


@pytest.mark.parametrize("mechanism", ["pair", "flock"])
def test_loops_in_many_threads(mechanism: str, place: Path) -> None:
    """They begin and end beside each other, each with what it has of its own."""
    errors: list[BaseException] = []
    urls = ["pair" if mechanism == "pair" else f"flock:{place}/{number}" for number in range(112)]
    end = monotonic() + 2

    def run(number: int) -> None:
        runner = RUNNERS[LOOPS[number % 3]]
        try:
            while monotonic() < end and not errors:
                runner(partial(wait_briefly, urls[number]))
        except BaseException as error:
            errors.append(error)

    with loops_at_rest(urls[THREADS:]), hasty_threads():
        threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
