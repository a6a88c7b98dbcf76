"""What aipc has in each loop, when the kernel refuses to watch, in several threads, and after a loop that was closed amid a wait."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

import anyio
import pytest
import uvloop

import aipc
from aipc.testing.expect import settle

from ...seccomp import judged_from
from ...subjects import times
from ..test_waiting import LOOPS, RUNNERS, park_and_receive

Refuse = Callable[[int], None]
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
    """Run it in a thread with a loop, in which a channel waits anyhow. It says how often aipc's set there takes no more.

    As the kernel does over fs.epoll.max_user_watches. trio watches by itself.
    """
    left = 0

    def decide(_: str, __: int) -> int:
        nonlocal left
        left -= 1
        return errno.ENOSPC if left >= 0 else 0

    def refuse(times: int) -> None:
        nonlocal left
        left = times

    async def main(begin: Callable[[int], None]) -> None:
        before = sets()
        one, other = aipc.channel_pair()
        async with one, other, anyio.create_task_group() as tasks:
            with anyio.fail_after(10):
                tasks.start_soon(one.receive)
                await settle()
                (ours,) = sets() - before
                begin(ours)
                await scenario(refuse)
                tasks.cancel_scope.cancel()

    judged_from("epoll_ctl", decide, lambda begin: RUNNERS[loop](partial(main, begin)))


@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_wait_for_a_message(loop: str) -> None:
    """It says so, each time; the next wait is one."""

    async def scenario(refuse: Refuse) -> None:
        ours, theirs = aipc.channel_pair()
        async with ours, theirs:
            refuse(2)
            for _ in range(2):
                with pytest.raises(aipc.NoSpace, match="unix pair"):
                    await ours.receive()
            await park_and_receive(ours, theirs)

    refused(loop, scenario)


@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_wait_for_room(loop: str) -> None:
    """Beside a wait for messages, which goes on. The message has begun; whoever sends next finishes it."""

    async def scenario(refuse: Refuse) -> None:
        ours, theirs = aipc.channel_pair()
        async with ours, theirs, anyio.create_task_group() as tasks:
            tasks.start_soon(ours.receive)
            await settle()
            refuse(2)  # to the sender, and to the background
            with pytest.raises(aipc.NoSpace, match="unix pair"):
                await ours.send(HUGE)
            await settle()
            tasks.start_soon(ours.send, b"behind it")
            assert [await theirs.receive(), await theirs.receive()] == [HUGE, b"behind it"]
            assert ours.statistics().messages_sent == 2
            await theirs.send(b"for the one who waits")

    refused(loop, scenario)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("loop", ASYNCIOS)
def test_refused_timer_and_doorbell(loop: str, times: int, place: Path) -> None:
    """A polled wait has other ways."""

    async def scenario(refuse: Refuse) -> None:
        refuse(times)
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
    end = monotonic() + times(1, 5) / 2

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


@pytest.mark.anyio
async def test_number_of_a_descriptor_that_somebody_else_closed() -> None:
    """The object that has the number next is watched, although aipc was not told."""
    robbed, _ = pair = aipc.channel_pair()
    number = robbed.extra(aipc.ChannelAttribute.descriptor)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(robbed.receive)
        await settle()
        tasks.cancel_scope.cancel()
    read, write = os.pipe()
    os.dup2(read, number)
    async with await aipc.open_channel(f"fd:{number}") as receiver, await aipc.open_channel(f"fd:{write}") as sender:
        await park_and_receive(receiver, sender)
    os.dup2(read, number)  # for `robbed` to close
    os.close(read)
    for channel in pair:
        await channel.aclose()
