from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import aipc

pytestmark = pytest.mark.anyio

ECHO = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_channel(sys.argv[1]) as channel:
        async for message in channel:
            await channel.send(message)
asyncio.run(main())
"""


async def test_child_on_inherited_socket() -> None:
    ours, theirs = aipc.channel_pair()
    fd = theirs.extra(aipc.ChannelAttribute.descriptor)
    with anyio.fail_after(10), subprocess.Popen([sys.executable, "-c", ECHO, f"fd:{fd}"], pass_fds=[fd]) as child:
        await theirs.aclose()
        async with ours:
            await ours.send(b"there")
            assert await ours.receive() == b"there"
            await ours.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await ours.receive()
    assert child.returncode == 0


async def test_child_on_two_inherited_pipes() -> None:
    their_receiver, our_sender = aipc.pipe()
    our_receiver, their_sender = aipc.pipe()
    fds = [end.extra(aipc.ChannelAttribute.descriptor) for end in (their_receiver, their_sender)]
    url = f"fd:{fds[0]},{fds[1]}"
    with anyio.fail_after(10), subprocess.Popen([sys.executable, "-c", ECHO, url], pass_fds=fds) as child:
        await their_receiver.aclose()
        await their_sender.aclose()
        await our_sender.send(b"there")
        assert await our_receiver.receive() == b"there"
        await our_sender.aclose()
        assert [message async for message in our_receiver] == []
        await our_receiver.aclose()
    assert child.returncode == 0


async def test_one_way_descriptor_is_a_one_way_channel() -> None:
    reading, writing = os.pipe()
    async with aipc.open_channel(f"fd:{writing}") as sender, aipc.open_channel(f"fd:{reading}") as receiver:
        await sender.send(b"x")
        assert await receiver.receive() == b"x"
        with pytest.raises(aipc.UnsupportedOperation):
            await sender.receive()
        with pytest.raises(aipc.UnsupportedOperation):
            await receiver.send(b"")


@pytest.mark.parametrize("path", ["", "x", "-1", "3,4,5", "3,", "0x3"])
async def test_malformed(path: str) -> None:
    with pytest.raises(aipc.AddressError, match="descriptor's number"):
        await aipc.open_channel(f"fd:{path}")


async def test_what_it_refuses(place: Path) -> None:
    with pytest.raises(aipc.ObjectMissing, match="descriptor 999 is not open"):
        await aipc.open_channel("fd:999")
    with (place / "file").open("wb") as file, pytest.raises(aipc.WrongObject, match="no pipe"):
        await aipc.open_channel(f"fd:{file.fileno()}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(aipc.WrongObject, match="no pipe"):
        await aipc.open_channel(f"fd:{sock.fileno()}")
