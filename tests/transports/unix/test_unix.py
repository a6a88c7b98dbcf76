"""What goes over a Unix stream, byte for byte, and what a peer that breaks the rules gets. The peer is a plain socket."""

from __future__ import annotations

import os
import signal
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel

from ...peers import python, said

pytestmark = pytest.mark.anyio

LONG = 200_000
WIRE = {
    "u32": ([b"hello", b"", b"\xff\n\0"], b"\0\0\0\x05hello\0\0\0\0\0\0\0\x03\xff\n\0"),
    "u32le": ([b"hello", b"", b"\xff\n\0"], b"\x05\0\0\0hello\0\0\0\0\x03\0\0\0\xff\n\0"),
    "u64": ([b"hello", b"", b"\xff\n\0"], b"\0\0\0\0\0\0\0\x05hello" + bytes(8) + b"\0\0\0\0\0\0\0\x03\xff\n\0"),
    "lines": ([b"hello", b"", b"\xff\0\r"], b"hello\n\n\xff\0\r\n"),
    "null": ([b"hello", b"", b"\xff\n"], b"hello\0\0\xff\n\0"),
    "fixed:5": ([b"hello", b"\xff\n\0\0\0"], b"hello\xff\n\0\0\0"),
    "none": ([b"hello"], b"hello"),
}


@asynccontextmanager
async def connected(place: Path, **options: Any) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel that was accepted, and the plain socket at its other end."""
    path = f"{place}/socket"
    with anyio.fail_after(10), socket.socket(socket.AF_UNIX) as peer:
        async with aipc.listen(f"unix:{path}", **options) as listener:
            peer.settimeout(10)
            peer.connect(path)
            async with await listener.accept() as channel:
                yield channel, peer


def received(peer: socket.socket) -> bytes:
    """All that comes until the end."""
    with peer.makefile("rb") as file:
        return file.read()


@pytest.mark.parametrize("framing", WIRE)
async def test_bytes_sent(framing: str, place: Path) -> None:
    messages, wire = WIRE[framing]
    async with connected(place, framing=framing) as (channel, peer):
        for message in messages:
            await channel.send(message)
        await channel.send_eof()
        assert received(peer) == wire


@pytest.mark.parametrize("framing", WIRE)
async def test_bytes_sent_together(framing: str, place: Path) -> None:
    messages, wire = WIRE[framing]
    async with connected(place, framing=framing) as (channel, peer):
        await channel.send_many(messages)
        await channel.aclose()
        assert received(peer) == wire


@pytest.mark.parametrize("framing", WIRE)
async def test_bytes_received(framing: str, place: Path) -> None:
    messages, wire = WIRE[framing]
    async with connected(place, framing=framing) as (channel, peer):
        peer.sendall(wire)
        peer.shutdown(socket.SHUT_WR)
        assert [message async for message in channel] == messages


@pytest.mark.parametrize("framing", [framing for framing in WIRE if framing != "none"])
async def test_no_message_before_its_last_byte(framing: str, place: Path) -> None:
    messages, _ = WIRE[framing]
    async with connected(place, framing=framing) as (channel, peer):
        await channel.send(messages[0])
        frame = peer.recv(100)
        for number in range(len(frame)):
            with pytest.raises(anyio.WouldBlock):
                channel.receive_nowait()
            peer.sendall(frame[number : number + 1])
        assert channel.receive_nowait() == messages[0]


async def test_long_message_both_ways(place: Path) -> None:
    message = os.urandom(LONG)
    frame = LONG.to_bytes(4, "big") + message
    async with connected(place) as (channel, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, peer.sendall, frame)
        assert await channel.receive() == message
        tasks.start_soon(channel.send, message)
        assert await anyio.to_thread.run_sync(peer.recv, len(frame), socket.MSG_WAITALL) == frame


async def test_chunks_without_framing(place: Path) -> None:
    async with connected(place, framing="none") as (channel, peer):
        peer.sendall(b"one")
        assert await channel.receive() == b"one"
        peer.sendall(b"two")
        peer.sendall(b"three")
        assert await channel.receive() == b"twothree"
        await channel.send(b"")
        await channel.send(b"four")
        assert peer.recv(100) == b"four"
        stream = os.urandom(LONG)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, peer.sendall, stream)
            got = b""
            while len(got) < LONG:
                got += await channel.receive()
        assert got == stream


@pytest.mark.parametrize("framing", ["lines", "null"])
async def test_last_message_may_lack_its_delimiter(framing: str, place: Path) -> None:
    _, wire = WIRE[framing]
    async with connected(place, framing=framing) as (channel, peer):
        peer.sendall(wire + b"rest")
        peer.shutdown(socket.SHUT_WR)
        assert (await channel.receive_many())[-1:] + [message async for message in channel] == [WIRE[framing][0][-1], b"rest"]


@pytest.mark.parametrize(("framing", "item"), [("lines", b"a\nb"), ("null", b"a\0b"), ("fixed:3", b"ab"), ("fixed:3", b"abcd")])
async def test_message_that_the_framing_cannot_carry(framing: str, item: bytes, place: Path) -> None:
    async with connected(place, framing=framing) as (channel, peer):
        with pytest.raises(aipc.InvalidMessage):
            await channel.send(item)
        await channel.aclose()
        assert received(peer) == b""


TOO_LONG = {
    "u32": (b"\0\0\0\x03one\0\0\0\x03two", b"\xff\xff\xff\xff"),
    "u32le": (b"\x03\0\0\0one\x03\0\0\0two", b"\xff\xff\xff\x7f"),
    "u64": (bytes(7) + b"\x03one" + bytes(7) + b"\x03two", b"\xff" * 8),
    "lines": (b"one\ntwo\n", b"x" * 1_001),
    "null": (b"one\0two\0", b"x" * 1_001),
}


@pytest.mark.parametrize("framing", TOO_LONG)
async def test_too_long_a_frame(framing: str, place: Path) -> None:
    """What came before it is good; it is refused at once, for ever, and takes no memory."""
    good, bad = TOO_LONG[framing]
    async with connected(place, framing=framing, max_message_size=1_000) as (channel, peer):
        peer.sendall(good + bad)
        tracemalloc.start()
        try:
            assert [await channel.receive(), await channel.receive()] == [b"one", b"two"]
            with pytest.raises(aipc.MessageTooLarge, match="1,000"):
                await channel.receive()
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        peer.sendall(good)
        for _ in range(3):
            with pytest.raises(aipc.MessageTooLarge):
                await channel.receive()
            with pytest.raises(aipc.MessageTooLarge):
                channel.receive_nowait()
        with pytest.raises(aipc.MessageTooLarge):
            async for _ in channel:
                pass


async def test_announcing_takes_no_memory(place: Path) -> None:
    """Of a message within the limit, only what has come is resident."""
    size = 1 << 30
    async with connected(place, max_message_size=size) as (channel, peer):
        before = resident()
        peer.sendall(size.to_bytes(4, "big") + bytes(100_000))
        for _ in range(10):
            with pytest.raises(anyio.WouldBlock):
                channel.receive_nowait()
        assert resident() - before < 50_000_000


def resident() -> int:
    """This process's resident memory, bytes (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("framing", "torn"),
    [
        pytest.param("u32", b"\0\0", id="header"),
        pytest.param("u32", b"\0\0\0\x0aabc", id="short"),
        pytest.param("u32", LONG.to_bytes(4, "big") + bytes(70_000), id="long"),
        pytest.param("u64", bytes(7), id="long header"),
        pytest.param("fixed:10", b"abc", id="fixed"),
    ],
)
async def test_peer_closes_in_the_middle(framing: str, torn: bytes, place: Path) -> None:
    async with connected(place, framing=framing) as (channel, peer):
        peer.sendall(torn)
        peer.close()
        for _ in range(2):
            with pytest.raises(aipc.ProtocolError, match="middle of a message"):
                await channel.receive()


async def test_peer_closes_without_reading(place: Path) -> None:
    """What it sent arrives; then the channel is broken, not ended."""
    async with connected(place, framing="lines") as (channel, peer):
        await channel.send(b"unread")
        peer.sendall(b"last\n")
        peer.close()
        assert await channel.receive() == b"last"
        with pytest.raises(anyio.BrokenResourceError):
            await channel.receive()


@pytest.mark.parametrize("framing", ["u32", "lines", "none"])
async def test_max_message_size(framing: str, place: Path) -> None:
    async with connected(place, framing=framing, max_message_size=10) as (channel, peer):
        assert channel.extra(aipc.ChannelAttribute.max_message_size) == 10
        with pytest.raises(aipc.MessageTooLarge, match="11 bytes; max_message_size is 10"):
            await channel.send(b"x" * 11)
        await channel.send(b"x" * 10)
        await channel.aclose()
        assert received(peer).count(b"x") == 10


async def test_two_sides_with_different_limits(place: Path) -> None:
    url = f"unix:{place}/socket"
    with anyio.fail_after(10):
        async with (
            aipc.listen(url + "?max_message_size=5") as listener,
            aipc.open_channel(url) as ours,
            await listener.accept() as theirs,
        ):
            await ours.send(b"12345")
            await ours.send(b"123456")
            assert await theirs.receive() == b"12345"
            with pytest.raises(aipc.MessageTooLarge):
                await theirs.receive()


CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    print("connected", flush=True)
    sys.stdin.read()
"""


PEER = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_channel(sys.argv[1]) as channel:
        await channel.send(b"here")
        await channel.receive()
asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket"])
async def test_peer_pidfd(scheme: str, place: Path) -> None:
    """It stands for the very process: it tells of its end, and can't be another's."""
    url = f"{scheme}:{place}/socket"
    async with aipc.listen(url) as listener:
        with python(PEER, url) as peer, anyio.fail_after(30):
            async with await listener.accept() as channel:
                await channel.receive()
                pidfd = channel.extra(aipc.ChannelAttribute.peer_pidfd)
                assert not os.get_inheritable(pidfd)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                assert await anyio.to_thread.run_sync(peer.wait) == -signal.SIGKILL
                with pytest.raises(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, 0)
                os.close(pidfd)


async def test_peer_credentials(place: Path) -> None:
    path = f"{place}/socket"
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}") as listener, aipc.open_channel(f"unix:{path}") as ours:
            async with await listener.accept() as theirs:
                me = aipc.Credentials(os.getpid(), os.getuid(), os.getgid())
                assert ours.extra(aipc.ChannelAttribute.peer_credentials) == me
                assert theirs.extra(aipc.ChannelAttribute.peer_credentials) == me
            with python(CONNECT, path) as other:
                assert said(other) == "connected"
                async with await listener.accept() as theirs:
                    credentials = theirs.extra(aipc.ChannelAttribute.peer_credentials)
                    assert credentials == (other.pid, os.getuid(), os.getgid())


async def test_attributes(place: Path) -> None:
    async with connected(place) as (channel, _):
        assert channel.extra(anyio.abc.SocketAttribute.family) == socket.AF_UNIX
        assert channel.extra(anyio.abc.SocketAttribute.local_address) == f"{place}/socket"
        assert channel.extra(anyio.abc.SocketAttribute.remote_address) == ""
        descriptor = channel.extra(aipc.ChannelAttribute.descriptor)
        assert os.path.samestat(os.fstat(descriptor), os.stat(f"/proc/self/fd/{descriptor}"))
        await channel.aclose()
        assert channel.extra(aipc.ChannelAttribute.descriptor) == -1
        with pytest.raises(anyio.ClosedResourceError):
            channel.extra(aipc.ChannelAttribute.peer_credentials)


async def test_statistics_count_what_the_kernel_moved(place: Path) -> None:
    """Bytes with their framing, as `ChannelStatistics` says."""
    async with connected(place) as (channel, peer):
        await channel.send(b"12345")
        peer.sendall(b"\0\0\0\x03abc")
        await channel.receive()
        statistics = channel.statistics()
        assert (statistics.messages_sent, statistics.messages_received) == (1, 1)
        assert (statistics.bytes_sent, statistics.bytes_received) == (9, 7)


async def test_raw_socket_is_the_channels_own() -> None:
    """It shares the descriptor, and goes with the channel."""
    ours, theirs = aipc.channel_pair()
    async with ours, theirs:
        raw = ours.extra(anyio.abc.SocketAttribute.raw_socket)
        assert raw.fileno() == ours.extra(aipc.ChannelAttribute.descriptor)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        await ours.send(b"still the channel's")
        assert await theirs.receive() == b"still the channel's"
    assert raw.fileno() == -1
    with pytest.raises(anyio.ClosedResourceError):
        ours.extra(anyio.abc.SocketAttribute.raw_socket)
