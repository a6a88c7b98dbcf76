"""Who the peer is, where it has no number: this process is in a PID namespace of its own, and the peer is outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

import aipc

from ...peers import process, said, tell, unshared

pytestmark = pytest.mark.anyio

INSIDE = """
import sys
import anyio, aipc

def tell(channel):
    print(*channel.extra(aipc.ChannelAttribute.peer_credentials), flush=True)

async def main(scheme, place):
    async with aipc.open_channel(f"{scheme}:{place}/outside") as channel:
        tell(channel)
        if scheme == "unix+seqpacket":
            await channel.send(b"here")
            print((await channel.receive_message()).credentials, flush=True)
    async with aipc.listen(f"{scheme}:{place}/inside") as listener:
        print("listening", flush=True)
        async with await listener.accept() as channel:
            tell(channel)
            sys.stdin.readline()

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket", "shm"])
async def test_of_another_namespace(scheme: str, place: Path) -> None:
    """The pid is None, on both sides of a connection; the user, mapped to root there, is known."""
    alone = unshared("--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    with anyio.fail_after(30):
        async with aipc.listen(f"{scheme}:{place}/outside") as listener:
            with process(*alone, sys.executable, "-c", INSIDE, scheme, str(place)) as inside:
                async with await listener.accept() as channel:
                    if scheme == "unix+seqpacket":
                        assert await channel.receive() == b"here"
                        await channel.send(b"there")
                    assert said(inside) == "None 0 0"
                    seen = channel.extra(aipc.ChannelAttribute.peer_credentials)
                    assert seen.pid not in (None, 0, os.getpid()), "from outside it has a number"
                    assert seen.uid == os.getuid()
                    if scheme == "unix+seqpacket":
                        assert said(inside) == "None"
                assert said(inside) == "listening"
                async with aipc.open_channel(f"{scheme}:{place}/inside"):
                    assert said(inside) == "None 0 0"
                    tell(inside, "seen")
                assert inside.wait(20) == 0
