"""trio in its guest mode, in the thread of an asyncio loop: two loops that take turns (trio.lowlevel.start_guest_run)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import outcome
import pytest
import trio

import aipc

from ..test_waiting import LOOPS, RUNNERS, park_and_receive

HOSTS = [loop for loop in LOOPS if loop != "trio"]


async def run_as_guest(function: Callable[[], Awaitable[object]]) -> None:
    """Run it on trio, inside the asyncio loop that runs here."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[outcome.Outcome[object]] = loop.create_future()
    trio.lowlevel.start_guest_run(
        function,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    (await ended).unwrap()


@pytest.mark.parametrize("host", HOSTS)
def test_channel_moves_between_host_and_guest(host: str) -> None:
    async def main() -> None:
        ours, theirs = aipc.channel_pair()
        async with ours, theirs:
            for _ in range(2):
                await park_and_receive(ours, theirs)
                await run_as_guest(lambda: park_and_receive(ours, theirs))

    RUNNERS[host](main)


@pytest.mark.parametrize("host", HOSTS)
def test_messages_between_host_and_guest(host: str) -> None:
    """Each waits while the other works; in the end the host closes the channel that the guest waits for."""

    async def main() -> None:
        to_guest, in_guest = aipc.channel_pair()
        from_guest, to_host = aipc.channel_pair()

        async def echo() -> None:
            while True:
                await to_host.send(await in_guest.receive())

        async with to_guest, in_guest, from_guest, to_host:
            guest = asyncio.create_task(run_as_guest(echo))
            with anyio.fail_after(10):
                for number in range(20):
                    await to_guest.send(b"%d" % number)
                    assert await from_guest.receive() == b"%d" % number
                await in_guest.aclose()
                with pytest.raises(anyio.ClosedResourceError):
                    await guest

    RUNNERS[host](main)
