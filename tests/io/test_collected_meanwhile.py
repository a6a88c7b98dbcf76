"""The garbage collector may close a dropped channel at any line of the reactor, while that watches or leaves for another channel."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import anyio
import pytest

import aipc
from aipc._io.loop import reactor
from aipc.testing.expect import settle

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:unix pair. never closed:ResourceWarning")]

MOST_LINES = 25
"""To look at: a spin runs many."""


async def wait_and_cancel(channel: aipc.Channel) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        await settle()
        tasks.cancel_scope.cancel()


async def drop() -> None:
    """Leave a channel that has waited, the only one in the loop, to the garbage collector."""
    ours, theirs = aipc.channel_pair()
    await wait_and_cancel(ours)
    cycle: list[object] = [ours, theirs]
    cycle.append(cycle)


@contextmanager
def collected_at(line: int) -> Iterator[Callable[[], int]]:
    """Collect before the reactor's line number so many; gives how many lines it has run."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != reactor.__file__:
            return None
        if event == "line":
            if lines == line:
                gc.collect()
            lines += 1
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        yield lambda: lines
    finally:
        sys.settrace(before)
        gc.enable()


async def one_wait(line: int) -> int:
    ours, theirs = aipc.channel_pair()
    await drop()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            with collected_at(line) as lines:
                tasks.start_soon(ours.receive)
                await settle()
            await theirs.send(b"")
    await ours.aclose()
    await theirs.aclose()
    return lines()


async def one_close(line: int) -> int:
    ours, theirs = aipc.channel_pair()
    await drop()
    await wait_and_cancel(ours)
    with collected_at(line) as lines:
        await ours.aclose()
    await theirs.aclose()
    return lines()


@pytest.mark.parametrize("operation", [one_wait, one_close])
async def test_collected_at_each_line(operation: Callable[[int], Awaitable[int]]) -> None:
    for line in range(MOST_LINES):
        if await operation(line) <= line:
            break
    assert line > 5
