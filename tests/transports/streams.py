"""Streams of bytes of each kind, whose two ends may be framed differently."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

import aipc
from aipc.abc import Channel

from ..internet import contexts, port_of

STREAMS = ["unix", "pipe", "tcp", "tls"]
DUPLEX = ["unix", "tcp", "tls"]
_SMALL = {"send_buffer": 32768, "receive_buffer": 32768}  # without these the kernel would let them grow to megabytes


@asynccontextmanager
async def stream(
    kind: str, place: Path, sending: str = "u32", receiving: str = "u32", limit: int = 1 << 24
) -> AsyncIterator[tuple[Channel, Channel]]:
    """What the first one sends, framed as `sending`, the second one receives, framed as `receiving`."""
    ours, theirs = await opened(kind, place, sending, receiving, limit)
    async with ours, theirs:
        yield ours, theirs


async def opened(
    kind: str, place: Path, sending: str = "u32", receiving: str = "u32", limit: int = 1 << 24
) -> tuple[Channel, Channel]:
    """As `stream`, for the caller to close."""
    if kind == "pipe":
        reading, writing = os.pipe()
        theirs = await aipc.open_channel(f"fd:{reading}", framing=receiving, max_message_size=limit)
        return await aipc.open_channel(f"fd:{writing}", framing=sending), theirs
    url, at_listening, at_opening = f"unix:{place}/socket", {}, {}
    if kind != "unix":
        url, at_listening, at_opening = f"{kind}://127.0.0.1:0", dict(_SMALL), dict(_SMALL)
    if kind == "tls":
        at_listening["ssl_context"], at_opening["ssl_context"] = contexts()
    async with aipc.listen(url, framing=receiving, max_message_size=limit, **at_listening) as listener:
        accepted: list[Channel] = []

        async def accept() -> None:
            accepted.append(await listener.accept())
            if kind == "tls":
                await accepted[0].handshake()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            where = url if kind == "unix" else f"{kind}://127.0.0.1:{port_of(listener)}"
            ours = await aipc.open_channel(where, framing=sending, **at_opening)
    return ours, accepted[0]


def receive_at_once(channel: Channel) -> bytes:
    """Without letting another task run."""
    while True:
        with suppress(anyio.WouldBlock):
            return channel.receive_nowait()


def drain_at_once(channel: Channel) -> bytes:
    """All that is there by now, of a channel of chunks."""
    chunks = []
    with suppress(anyio.WouldBlock):
        while True:
            chunks.append(channel.receive_nowait())
    return b"".join(chunks)
