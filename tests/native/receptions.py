"""A channel on which tasks park so that the loop reads for them, and tasks that receive from it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

import aipc
from aipc.testing.expect import settle
from aipc.transports.unix.stream_channel import UnixChannel
from aipc.wire.framing import framing

where_the_loop_reads = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": uvloop}) for uvloop in (False, True)], ids=["asyncio", "uvloop"]
)
"""Not on trio, where a task parks in Python, and reads itself."""
FRAME = framing("u32").encode


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[UnixChannel, socket.socket]]:
    """A channel whose waits park at once, and know that nothing is there, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        async with await aipc.open_channel(f"fd:{ours.detach()}?spin=0") as opened:
            channel = cast("UnixChannel", opened)
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(channel.receive)
                    await settle()
                    theirs.send(FRAME(b"the first one is Python's"))
                yield channel, theirs


def is_parked(channel: UnixChannel) -> bool:
    """Whether a task is parked so that the loop reads for it."""
    return channel._handle.readable.reception is not None


class Receiver:
    """Receives in a task of its own."""

    def __init__(self, channel: UnixChannel, count: int = 1) -> None:
        self.channel, self.count = channel, count
        self.got: list[bytes] = []
        self.scope = anyio.CancelScope()

    async def __call__(self) -> None:
        with self.scope:
            while len(self.got) < self.count:
                self.got.append(await self.channel.receive())
