"""Who is in the backlog when a listener is drained takes himself for accepted: he is served."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

pytestmark = pytest.mark.anyio


async def echo(channel: aipc.Channel) -> None:
    async for message in channel:
        await channel.send(message)


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket"])
async def test_served_and_nobody_after_him(scheme: str, place: Path) -> None:
    url = f"{scheme}:{place}/socket"
    with anyio.fail_after(30):
        async with (
            aipc.listen(url, max_connections=1) as listener,
            anyio.create_task_group() as tasks,
            aipc.open_channel(url) as first,
        ):
            tasks.start_soon(listener.serve, echo)
            await first.send(b"x")
            assert await first.receive() == b"x"
            drained = anyio.Event()

            async def drain() -> None:
                await listener.drain()
                drained.set()

            waiting = [await aipc.open_channel(url) for _ in range(3)]  # while the first one is served
            tasks.start_soon(drain)
            await settle()
            with pytest.raises((aipc.NobodyListens, aipc.ObjectMissing)):
                await aipc.open_channel(url)
            await first.send(b"still served")
            assert await first.receive() == b"still served"
            await first.aclose()
            for channel in waiting:
                assert not drained.is_set()
                async with channel:
                    await channel.send(b"me, too")
                    assert await channel.receive() == b"me, too"
            await drained.wait()
    assert list(place.iterdir()) == []


async def test_who_waits_for_a_full_backlog_is_refused(place: Path) -> None:
    url = f"unix:{place}/socket"
    refused = anyio.Event()

    async def knock() -> None:
        with pytest.raises((aipc.NobodyListens, aipc.ObjectMissing)):
            await aipc.open_channel(url)
        refused.set()

    with anyio.fail_after(30), socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        async with aipc.listen(url, backlog=1) as listener:
            for sock in (first, second):
                sock.connect(f"{place}/socket")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(knock)
                await settle()
                await listener.drain()
                await refused.wait()
