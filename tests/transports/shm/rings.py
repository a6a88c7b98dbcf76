"""Two ends of a ring in one process, and a peer in another one that sends each message back reversed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

import aipc
from aipc import RingChannel


@asynccontextmanager
async def connected(place: Path, capacity: int = 4096, limit: int = 1 << 20) -> AsyncIterator[tuple[RingChannel, RingChannel]]:
    """The client's and the server's channel."""
    url = f"shm:{place}/ring"
    async with (
        aipc.listen(url, capacity=capacity, max_message_size=limit) as listener,
        aipc.open_channel(url, capacity=capacity, max_message_size=limit) as ours,
        await listener.accept() as theirs,
    ):
        assert isinstance(ours, RingChannel)
        assert isinstance(theirs, RingChannel)
        yield ours, theirs


async def meet(ours: RingChannel, theirs: RingChannel) -> None:
    """A message each way."""
    for one, other in ((ours, theirs), (theirs, ours)):
        await one.send(b"meet")
        assert await other.receive() == b"meet"


ECHO = """
import asyncio, sys
import aipc
async def main():
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring", capacity=int(sys.argv[2])) as channel:
        async for message in channel:
            await channel.send(message[::-1])
asyncio.run(main())
"""


async def echoed(channel: aipc.Channel, sizes: list[int]) -> None:
    """Messages go to a peer that sends them back reversed; some alone, some in a crowd."""
    messages = [os.urandom(size) for size in sizes]
    with anyio.fail_after(60):
        for message in messages:
            await channel.send(message)
            assert await channel.receive() == message[::-1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send_many, messages * 5)
            for message in messages * 5:
                assert await channel.receive() == message[::-1]


SIZES = [0, 1, 100, 2040, 2041, 5000, 20_000, 3, 1000]
