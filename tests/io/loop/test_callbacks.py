"""Plain calls from where no task runs: callbacks of a loop, other threads' calls into it, handlers of signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio

import aipc
from aipc.testing.expect import settle

from ..waiters import loop_of

pytestmark = pytest.mark.anyio

HUGE = bytes(1_000_000)
"""More than a socket takes at once, so that the rest is for the background."""


async def from_a_thread(function: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(anyio.from_thread.run_sync, function)


async def from_the_loop(loop: str, function: Callable[[], None]) -> None:
    if loop == "trio":
        trio.lowlevel.current_trio_token().run_sync_soon(function)
    else:
        asyncio.get_running_loop().call_soon(function)


async def from_a_signal(loop: str, function: Callable[[], None]) -> None:
    """asyncio's handlers are callbacks of the loop; trio has none, so that there it is a plain one of Python's."""
    if loop == "trio":
        before = signal.signal(signal.SIGUSR1, lambda *_: function())
        os.kill(os.getpid(), signal.SIGUSR1)
        await settle()
        signal.signal(signal.SIGUSR1, before)
        return
    running = asyncio.get_running_loop()
    called = asyncio.Event()
    running.add_signal_handler(signal.SIGUSR1, lambda: (function(), called.set()))
    os.kill(os.getpid(), signal.SIGUSR1)
    await called.wait()
    running.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("where", ["thread", "loop", "signal"])
async def test_half_a_message_from_a_callback(anyio_backend: tuple[str, dict[str, bool]], where: str) -> None:
    """It is finished in the background of the loop that runs there, whatever other loops have been imported."""
    assert "trio" in sys.modules
    loop = loop_of(anyio_backend)
    call = {"thread": from_a_thread, "loop": partial(from_the_loop, loop), "signal": partial(from_a_signal, loop)}[where]
    errors: list[Exception] = []
    ours, theirs = aipc.channel_pair("stream")

    def send() -> None:
        try:
            ours.send_nowait(HUGE)
        except Exception as error:
            errors.append(error)

    async with ours, theirs:
        with anyio.fail_after(10):
            await call(send)
            assert await theirs.receive() == HUGE
        assert errors == []
        assert ours.statistics().messages_sent == 1
