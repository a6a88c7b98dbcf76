"""The garbage collector may close a dropped object wherever aipc's waiting calls a function, just as another object waits or closes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import anyio
import pytest

import aipc
import aipc._io
from aipc.testing.expect import settle

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.*never closed:ResourceWarning")]

MOST = 60
"""Calls to collect at: a spin makes many."""
WAITING = aipc._io.__path__[0]


async def cancelled(operation: Callable[[], Awaitable[object]]) -> None:
    """It waits, and is cancelled."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(operation)
        await settle()
        tasks.cancel_scope.cancel()


def leave(*things: object) -> None:
    """Leave them to the garbage collector."""
    cycle: list[object] = [things]
    cycle.append(cycle)


@contextmanager
def collected_at(number: int) -> Iterator[Callable[[], int]]:
    """Collect at the call number so many, where Python 3.12 may do so, too; gives how many there were."""
    calls = 0

    def trace(frame: FrameType, *_: object) -> None:
        nonlocal calls
        if frame.f_back is not None and frame.f_back.f_code.co_filename.startswith(WAITING):
            if calls == number:
                gc.collect()
            calls += 1

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        yield lambda: calls
    finally:
        sys.settrace(before)
        gc.enable()


async def channel_waits(number: int, _: str) -> int:
    ours, theirs = aipc.channel_pair()
    dropped, peer = aipc.channel_pair()
    await cancelled(dropped.receive)
    leave(dropped, peer)
    del dropped
    async with ours, theirs, anyio.create_task_group() as tasks:
        with collected_at(number) as calls:
            tasks.start_soon(ours.receive)
            await settle()
        await theirs.send(b"")
    return calls()


async def channel_closes(number: int, _: str) -> int:
    ours, theirs = aipc.channel_pair()
    dropped, peer = aipc.channel_pair()
    await cancelled(ours.receive)
    await cancelled(dropped.receive)
    leave(dropped, peer)
    del dropped
    with collected_at(number) as calls:
        await ours.aclose()
    await theirs.aclose()
    return calls()


async def message_comes(number: int, _: str) -> int:
    """To a channel that nobody waits for any more."""
    dropped, peer = aipc.channel_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dropped.receive)
        await settle()
        await peer.send(b"")
    await peer.send(b"")
    leave(dropped, peer)
    del dropped, peer
    with collected_at(number) as calls:
        await settle()
    return calls()


async def lock_waits(number: int, url: str) -> int:
    async with aipc.open_lock(url) as ours, aipc.open_lock(url) as theirs:
        dropped = await aipc.open_lock(url)
        await theirs.acquire()
        await cancelled(dropped.acquire)
        leave(dropped)
        del dropped
        async with anyio.create_task_group() as tasks:
            with collected_at(number) as calls:
                tasks.start_soon(ours.acquire)
                await settle()
            theirs.release()
    return calls()


@pytest.mark.costly
@pytest.mark.parametrize("operation", [channel_waits, channel_closes, message_comes, lock_waits])
async def test_collected_at_each_call(operation: Callable[[int, str], Awaitable[int]], place: Path) -> None:
    """What waits is still woken, and what closes is closed."""
    calls = MOST
    for number in range(MOST):
        if number >= calls:
            break
        with anyio.fail_after(10):
            calls = await operation(number, f"flock:{place}/lock")
    assert calls
