"""Connected pairs: what they are made of."""

from __future__ import annotations

import gc
import os
import socket

import anyio
import pytest

import aipc
from aipc.abc import Channel

pytestmark = pytest.mark.anyio


async def test_unknown_kind() -> None:
    with pytest.raises(aipc.AddressError, match=r"'tcp'.*must be one of stream"):
        aipc.channel_pair("tcp")


@pytest.mark.parametrize(
    ("kind", "made_of"),
    [("stream", socket.SOCK_STREAM), ("seqpacket", socket.SOCK_SEQPACKET), ("dgram", socket.SOCK_DGRAM)],
)
async def test_kinds(kind: str, made_of: socket.SocketKind) -> None:
    one, other = aipc.channel_pair(kind)
    async with one, other:
        assert {end.extra(anyio.abc.SocketAttribute.raw_socket).type for end in (one, other)} == {made_of}


async def test_both_directions_and_half_close() -> None:
    one, other = aipc.channel_pair()
    async with one, other:
        with anyio.fail_after(10):
            await one.send(b"there")
            assert await other.receive() == b"there"
            await one.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await other.receive()
            await other.send(b"and back")
            assert await one.receive() == b"and back"


async def test_it_is_a_pair_of_unix_sockets() -> None:
    one, other = aipc.channel_pair("stream")
    async with one, other:
        for channel in (one, other):
            assert channel.extra(anyio.abc.SocketAttribute.family) == socket.AF_UNIX
            credentials = channel.extra(aipc.ChannelAttribute.peer_credentials)
            assert credentials == aipc.Credentials(os.getpid(), os.getuid(), os.getgid())
        await one.send(b"hello")
        assert os.read(other.extra(aipc.ChannelAttribute.descriptor), 100) == b"\0\0\0\x05hello"


async def test_across_fork_by_descriptor() -> None:
    """A forked child may use the descriptor's number for what it opens itself."""
    one, other = aipc.channel_pair()
    async with one, other:
        pid = os.fork()
        if pid == 0:
            try:
                os.write(other.extra(aipc.ChannelAttribute.descriptor), b"\0\0\0\x05child")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        with anyio.fail_after(10):
            assert await one.receive() == b"child"


async def test_never_closed() -> None:
    """The garbage collector complains, and closes it."""
    one, *forgotten = aipc.channel_pair()
    with pytest.warns(ResourceWarning, match="unix pair: never closed"):
        forget(forgotten)
    async with one:
        with anyio.fail_after(10), pytest.raises(anyio.EndOfStream):
            await one.receive()


def forget(channels: list[Channel]) -> None:
    """Leave the last one to the garbage collector."""
    channels.pop()
    gc.collect()
