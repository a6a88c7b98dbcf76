"""Messages that are held until the end of a turn of the loop, so that one system call takes all of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import in_child
from aipc.transports.socket_stream import SocketStreamChannel

Pair = tuple[SocketStreamChannel, socket.socket]


@pytest.fixture
async def pair(place: Path) -> AsyncIterator[Pair]:
    """A channel with frames of `u32`, and the bytes of its peer."""
    async with aipc.listen(f"unix:{place}/socket") as listener:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{place}/socket")
            peer.setblocking(False)
            async with await listener.accept() as channel:
                assert isinstance(channel, SocketStreamChannel)
                yield channel, peer


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def fill(channel: SocketStreamChannel) -> list[bytes]:
    """Send until there is no room: what was sent."""
    sent = []
    with suppress(anyio.WouldBlock):
        while True:
            channel.send_nowait(bytes(1_000))
            sent.append(frame(bytes(1_000)))
    return sent


async def come(peer: socket.socket) -> bytes:
    await anyio.wait_readable(peer)
    return peer.recv(1_000_000)


@pytest.mark.anyio
async def test_they_go_together_at_the_end_of_the_turn(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        for each in (b"one", b"two", b"three"):
            channel.hold_nowait(each)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        with anyio.fail_after(10):
            assert await come(peer) == frame(b"one") + frame(b"two") + frame(b"three")
        assert channel.statistics().messages_sent == 3


@pytest.mark.anyio
async def test_an_ordinary_message_goes_after_them_at_once(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        channel.hold_nowait(b"one")
        channel.send_nowait(b"two")
        assert peer.recv(100) == frame(b"one") + frame(b"two")
        channel.hold_nowait(b"three")
        await channel.send(b"four")
        channel.hold_nowait(b"five")
        await channel.send_many([b"six"])
        assert peer.recv(100) == b"".join(map(frame, (b"three", b"four", b"five", b"six")))
        channel.hold_nowait(b"last")
        await channel.send_eof()
        assert peer.recv(100) == frame(b"last")
        assert peer.recv(100) == b""


@pytest.mark.anyio
async def test_closing_sends_them(pair: Pair) -> None:
    channel, peer = pair
    channel.hold_nowait(b"one")
    await channel.aclose()
    assert peer.recv(100) == frame(b"one")
    assert peer.recv(100) == b""


@pytest.mark.anyio
async def test_many_are_not_held_long(pair: Pair) -> None:
    """The peer has the first ones while the sender still works on the others."""
    channel, peer = pair
    async with channel:
        for number in range(100):
            channel.hold_nowait(b"%d" % number)
        assert peer.recv(100_000).startswith(frame(b"0") + frame(b"1"))


@pytest.mark.anyio
async def test_a_long_message_is_not_held(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        channel.hold_nowait(b"one")
        channel.hold_nowait(bytes(10_000))
        assert peer.recv(100_000) == frame(b"one") + frame(bytes(10_000))


@pytest.mark.anyio
async def test_without_room_they_wait_and_so_does_the_next(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        sent = fill(channel)
        channel.hold_nowait(b"held")
        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(b"refused")
        sent.append(frame(b"held"))
        got = b""
        with anyio.fail_after(10):
            while len(got) < sum(map(len, sent)):
                got += await come(peer)
        assert got == b"".join(sent)
        await channel.send(b"next")
        assert await come(peer) == frame(b"next")


@pytest.mark.anyio
async def test_a_closed_channel_holds_no_more(pair: Pair) -> None:
    """Also if it had no room for what it holds."""
    channel, _ = pair
    fill(channel)
    channel.hold_nowait(b"held")
    channel.close()
    with pytest.raises(anyio.ClosedResourceError):
        channel.hold_nowait(b"late")


@pytest.mark.anyio
async def test_a_forked_child_holds_no_more(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        channel.hold_nowait(b"held")

        def hold() -> None:
            with pytest.raises(aipc.ForkedError):
                channel.hold_nowait(b"late")

        in_child(hold)
        assert await come(peer) == frame(b"held")


@pytest.mark.anyio
async def test_messages_without_a_byte_are_held_too(place: Path) -> None:
    """Without framing, such a message is nothing on the wire."""
    async with aipc.listen(f"unix:{place}/raw?framing=none") as listener:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{place}/raw")
            peer.setblocking(False)
            async with await listener.accept() as channel:
                assert isinstance(channel, SocketStreamChannel)
                for data in (b"", b"one", b"", b"two", b""):
                    channel.hold_nowait(data)
                assert await come(peer) == b"onetwo"


@pytest.mark.anyio
async def test_a_cancelled_send_leaves_them(pair: Pair) -> None:
    channel, peer = pair
    async with channel:
        sent = fill(channel)
        channel.hold_nowait(b"held")
        with anyio.move_on_after(0.01):
            await channel.send(b"given up")
        got = b""
        with anyio.fail_after(10):
            while not got.endswith(frame(b"held")):
                got += await come(peer)
        assert got == b"".join(sent) + frame(b"held")


@pytest.mark.anyio
async def test_the_peer_has_left(pair: Pair) -> None:
    """The next send says so, and so does a receive."""
    channel, peer = pair
    async with channel:
        peer.close()
        channel.hold_nowait(b"lost")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"next")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await channel.receive()


@pytest.mark.anyio
async def test_what_cannot_be_sent_is_refused_at_once(pair: Pair) -> None:
    channel, _ = pair
    async with channel:
        with pytest.raises(TypeError):
            channel.hold_nowait("text")  # type: ignore[arg-type]
        await channel.send_eof()
        with pytest.raises(anyio.ClosedResourceError):
            channel.hold_nowait(b"after the end")


@pytest.mark.parametrize("ordinary", [True, False])
def test_a_loop_that_ends_in_the_middle_of_a_turn(ordinary: bool) -> None:
    """The next loop sends what was held, and holds again."""
    one, other = aipc.channel_pair()
    assert isinstance(one, SocketStreamChannel)

    async def interrupted() -> None:
        one.hold_nowait(b"first")
        raise KeyboardInterrupt

    async def again() -> list[bytes]:
        if ordinary:
            one.send_nowait(b"second")
        one.hold_nowait(b"third")
        with anyio.fail_after(10):
            return [await other.receive() for _ in range(2 + ordinary)]

    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(interrupted())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
    assert asyncio.run(again()) == [b"first", *([b"second"] if ordinary else []), b"third"]
    one.close()
    other.close()


@pytest.mark.anyio
async def test_nothing_is_held_after_closing(pair: Pair) -> None:
    channel, _ = pair
    await channel.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        channel.hold_nowait(b"after closing")
