"""Sequenced packets: what a record is, where it ends and how it ends; C programs and socat at the other end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

import aipc
from aipc import ChannelAttribute
from aipc.abc import Channel
from aipc.testing.expect import in_child
from aipc.transports.packet import PacketHandle
from aipc.transports.unix.seqpacket import SeqpacketChannel

from ...peers import compile_peer, process, said

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("unix_packet", tmp_path_factory))


@asynccontextmanager
async def connected(place: Path) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel that was accepted, and the plain socket at its other end."""
    path = f"{place}/socket"
    with anyio.fail_after(10), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        async with aipc.listen(f"unix+seqpacket:{path}") as listener:
            peer.settimeout(10)
            peer.connect(path)
            async with await listener.accept() as channel:
                yield channel, peer


@pytest.mark.parametrize("call", ["receive", "receive_message", "receive_many", "async for"])
async def test_empty_record_is_not_the_end(call: str, place: Path) -> None:
    """Also where both lie in the socket at once, and wherever the empty one stands."""
    records = [b"", b"x", b"", b""]
    async with connected(place) as (channel, peer):
        for record in records:
            peer.send(record)
        peer.close()
        if call == "receive":
            assert [await channel.receive() for _ in records] == records
        elif call == "receive_message":
            assert [(await channel.receive_message()).data for _ in records] == records
        elif call == "receive_many":
            assert await channel.receive_many() == records
        else:
            assert [data async for data in channel] == records
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await channel.receive()
            with pytest.raises(anyio.EndOfStream):
                await channel.receive_message()


async def test_empty_record_sent_before_the_channel_was_made() -> None:
    """Its sender's credentials are not on it; that it is a record shows all the same."""
    sock, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for record in (b"", b"", b"x", b""):
        peer.send(record)
    peer.close()
    async with SeqpacketChannel(PacketHandle(sock, "test")) as channel:
        assert await channel.receive() == b""
        assert await channel.receive_message() == aipc.Message(b"")
        assert await channel.receive_message() == aipc.Message(b"x")
        assert await channel.receive() == b""
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()


async def test_credentials_of_each_message(place: Path) -> None:
    async with connected(place) as (channel, peer):
        peer.send(b"x")
        ours = aipc.Credentials(os.getpid(), os.getuid(), os.getgid())
        assert (await channel.receive_message()).credentials == ours
        assert channel.extra(ChannelAttribute.peer_credentials) == ours


@pytest.mark.parametrize("buffer", [None, 5_000, 1_000_000])
async def test_limit_follows_the_send_buffer(buffer: int | None, place: Path) -> None:
    path = f"{place}/socket"
    options = {} if buffer is None else {"send_buffer": buffer}
    with anyio.fail_after(10):
        async with (
            aipc.listen(f"unix+seqpacket:{path}") as listener,
            aipc.open_channel(f"unix+seqpacket:{path}", **options) as ours,
            await listener.accept() as theirs,
        ):
            limit = ours.extra(ChannelAttribute.max_message_size)
            raw = ours.extra(anyio.abc.SocketAttribute.raw_socket)
            assert limit == raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
            assert buffer is None or limit == 2 * buffer - 32
            ours.send_nowait(bytes(limit))
            assert len(await theirs.receive()) == limit
            with pytest.raises(aipc.MessageTooLarge, match=rf"{limit + 1:,} bytes; this socket's limit is {limit:,}"):
                ours.send_nowait(bytes(limit + 1))


async def test_more_than_the_kernel_can_hold_in_one_piece() -> None:
    """A large send buffer does not help any more; the refusal is the same."""
    ours, theirs = aipc.channel_pair("seqpacket")
    async with ours, theirs:
        raw = ours.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE
        limit = ours.extra(ChannelAttribute.max_message_size)
        assert limit == 4 << 20
        ours.send_nowait(b"x" * limit)
        assert await theirs.receive() == b"x" * limit
        with pytest.raises(aipc.MessageTooLarge):
            ours.send_nowait(bytes(16 << 20))


async def test_buffer_over_the_kernels_limit(place: Path) -> None:
    url = f"unix+seqpacket:{place}/socket"
    with anyio.fail_after(10):
        async with aipc.listen(url):
            with pytest.raises(aipc.LimitExceeded, match="wmem_max"):
                await aipc.open_channel(url, send_buffer=1 << 30)
            with pytest.raises(aipc.LimitExceeded, match="rmem_max"):
                await aipc.open_channel(url, receive_buffer=1 << 30)
        with pytest.raises(aipc.LimitExceeded):
            await aipc.listen(url, send_buffer=1 << 30)
        async with (
            aipc.listen(url, send_buffer=5_000) as listener,
            aipc.open_channel(url),
            await listener.accept() as theirs,
        ):
            assert theirs.extra(ChannelAttribute.max_message_size) == 10_000 - 32


async def test_peer_that_closed_with_records_unread(place: Path) -> None:
    """The kernel tells of the reset first; the peer's last records still arrive, and the reset stands in the end's place."""
    async with connected(place) as (channel, peer):
        await channel.send(b"never read")
        peer.send(b"1")
        peer.send(b"")
        peer.close()
        assert await channel.receive() == b"1"
        assert await channel.receive() == b""
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError):
                await channel.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"to nobody")


def test_lost_receiver_is_no_signal(anyio_backend: object) -> None:
    """Not even where SIGPIPE would kill, as it does outside Python."""

    def send_to_nobody() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for options in ({}, {"fds": [0]}):
            ours, theirs = aipc.channel_pair("seqpacket")
            theirs.close()
            with pytest.raises(anyio.BrokenResourceError):
                ours.send_nowait(b"x", **options)
            ours.close()

    in_child(send_to_nobody)


async def test_socket_shared_with_another_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that took the place of the one asked about is reported lost, and not passed on cut; its descriptors are closed."""
    ours, theirs = aipc.channel_pair("seqpacket")
    async with ours, theirs:
        monkeypatch.setattr(type(theirs), "_next_size", lambda _: 1)
        ours.send_nowait(b"longer", fds=[0])
        with pytest.raises(anyio.BrokenResourceError, match="another process"):
            theirs.receive_nowait()
        ours.send_nowait(b"longer", fds=[0])
        with pytest.raises(anyio.BrokenResourceError, match="another process"):
            await theirs.receive_message()


async def test_stale_file_and_live_owner(place: Path) -> None:
    path = place / "socket"
    url = f"unix+seqpacket:{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(path))
    with anyio.fail_after(10):
        with pytest.raises(aipc.NobodyListens):
            await aipc.open_channel(url)
        with pytest.raises(aipc.ObjectExists):
            await aipc.listen(url, exclusive=True)
        async with aipc.listen(url, mode=0o640):
            assert path.stat().st_mode & 0o777 == 0o640
            with pytest.raises(aipc.ObjectExists):
                await aipc.listen(url)
            with pytest.raises(aipc.WrongObject):
                await aipc.open_channel(f"unix:{path}")
        assert not path.exists()
        async with aipc.listen(f"unix:{path}"):
            with pytest.raises(aipc.WrongObject, match="not a sequenced-packet"):
                await aipc.open_channel(url)


@pytest.mark.parametrize("name", ["@aipc-test-{pid}", "{place}/{long}/socket"])
async def test_abstract_names_and_long_paths(name: str, place: Path) -> None:
    (place / ("d" * 120)).mkdir()
    url = "unix+seqpacket:" + name.format(pid=os.getpid(), place=place, long="d" * 120)
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
            await ours.send(b"works")
            assert await theirs.receive() == b"works"


async def test_serving(place: Path) -> None:
    url = f"unix+seqpacket:{place}/socket"

    async def echo(channel: Channel) -> None:
        async for data in channel:
            await channel.send(data)

    with anyio.fail_after(10):
        async with aipc.listen(url, backlog=1) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            for _ in range(20):
                async with aipc.open_channel(url) as channel:
                    for record in (b"", bytes(100_000)):
                        await channel.send(record)
                        assert await channel.receive() == record
            tasks.cancel_scope.cancel()


async def test_records_from_c(c_peer: str, place: Path) -> None:
    url = f"unix+seqpacket:{place}/socket"
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener:
            with process(c_peer, "records", f"{place}/socket") as peer:
                async with await listener.accept() as channel:
                    assert [await channel.receive() for _ in range(3)] == [b"one", b"", b"x" * 100_000]
                    message = await channel.receive_message()
                    assert message.data == b"pipe"
                    assert channel.extra(ChannelAttribute.peer_credentials).pid == peer.pid
                    (fd,) = message.fds
                    assert os.read(fd, 99) == b"hello"
                    os.close(fd)
                    with pytest.raises(anyio.EndOfStream):
                        await channel.receive()


async def test_records_to_c(c_peer: str, place: Path) -> None:
    url = f"unix+seqpacket:{place}/socket"
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener:
            with process(c_peer, "print", f"{place}/socket") as peer:
                async with await listener.accept() as channel:
                    await channel.send(b"12345")
                    await channel.send(b"")
                    await channel.send(bytes(5_000))
                    await channel.send(b"fds", fds=[0, 0, 0])
                    await channel.send(b"bye")
                    lines = [await anyio.to_thread.run_sync(said, peer) for _ in range(4)]
    assert lines == ["5 0 whole", "0 0 whole", "4096 0 cut", "3 3 whole"]


async def test_socat_connects(place: Path) -> None:
    url = f"unix+seqpacket:{place}/socket"
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener:
            with process("socat", "-", f"UNIX-CONNECT:{place}/socket,socktype=5") as peer:
                async with await listener.accept() as channel:
                    assert peer.stdin is not None
                    peer.stdin.write("from socat\n")
                    peer.stdin.flush()
                    assert await channel.receive() == b"from socat\n"
                    await channel.send(b"to socat\n")
                    assert await anyio.to_thread.run_sync(said, peer) == "to socat"


async def test_socat_listens(place: Path) -> None:
    path = place / "socket"
    with anyio.fail_after(30), process("socat", f"UNIX-LISTEN:{path},socktype=5", "-") as peer:
        while True:
            try:
                channel = await aipc.open_channel(f"unix+seqpacket:{path}")
                break
            except (aipc.ObjectMissing, aipc.NobodyListens):
                await anyio.sleep(0.01)
        async with channel:
            assert peer.stdin is not None
            peer.stdin.write("from socat\n")
            peer.stdin.flush()
            assert await channel.receive() == b"from socat\n"
            await channel.send(b"to socat\n")
            assert await anyio.to_thread.run_sync(said, peer) == "to socat"
