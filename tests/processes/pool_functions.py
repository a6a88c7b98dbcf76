"""What the workers of the pools' tests run when they misbehave, or have to wait."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio

import aipc


async def misbehave(channel: Any) -> None:
    """Answer each message with this process's number; or as it says, with something that is no answer."""
    async for message in channel:
        if message == b"bytes":
            os.write(channel.extra(aipc.ChannelAttribute.descriptor), b"\xff" * 4)  # as a stray print to the descriptor would
            await anyio.sleep_forever()
        elif message == b"no number":
            await channel._transport.send(b"bad")
            await anyio.sleep_forever()
        elif message == b"half":
            channel.send(bytes(12 << 20)).send(None)  # until it would wait
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == b"close":
            await channel.aclose()
            await anyio.sleep_forever()
        elif message == b"last words":
            channel.send_nowait(message)
            os.kill(os.getpid(), signal.SIGKILL)
        elif message == b"silence":
            await anyio.sleep_forever()
        await channel.send(b"%d" % os.getpid())


async def wait_for_file(channel: aipc.Channel, path: str) -> None:
    """Answer each message when there is such a file."""
    async for message in channel:
        while not os.path.exists(path):
            await anyio.sleep(1e-3)
        await channel.send(bytes(message))
