"""A short message that is sent by one call in C: the same bytes as from Python, and all else is left to that."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from contextlib import closing
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aipc
from aipc.exceptions import MessageTooLarge
from aipc.testing.expect import in_child, settle
from aipc.transports import byte_stream
from aipc.wire.framing import framing

from . import native, needs_native

pytestmark = needs_native
SMALLEST = 4096
"""Bytes that a pipe holds at least: a page."""


@given(st.sampled_from(["u32", "u32le", "u64", "none"]), st.binary(max_size=300))
def test_the_same_bytes(name: str, item: bytes) -> None:
    """The first message is Python's: it prepares the channel."""
    receiver, sender = aipc.pipe(framing=name)
    with closing(receiver), closing(sender):
        sender.send_nowait(item)
        assert native.send(sender, item) == 0
        sender.close()
        assert os.read(receiver.extra(aipc.ChannelAttribute.descriptor), 1000) == framing(name).encode(item) * 2


def test_what_is_left_to_python() -> None:
    receiver, sender = aipc.pipe()
    with closing(receiver), closing(sender):
        assert native.send(sender, b"the first one") == -1
        sender.send_nowait(b"first")
        for item in (bytes(native.MOST_WRITTEN + 1), bytearray(b"a"), "text", None):
            assert native.send(sender, item) == -1
        assert native.send(receiver, b"to the wrong end") == -1
        assert receiver.receive_nowait() == b"first"
        with pytest.raises(TypeError, match="channel"):
            native.send(object(), b"")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the calls of this test's channels gave, if they sent anything: 0 is all."""

    def send(*arguments: Any) -> int:
        count: int = native.send(*arguments)
        if count >= 0:
            written.append(count)
        return count

    written: list[Any] = []
    monkeypatch.setattr(byte_stream, "_send", send)
    return written


@pytest.mark.anyio
async def test_a_channel_sends(written: list[Any]) -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        for item in (
            b"first",
            b"",
            b"abc",
            bytes(native.MOST_WRITTEN),
            bytes(native.MOST_WRITTEN + 1),
            bytearray(b"a"),
            b"last",
        ):
            await ours.send(item)
            assert await theirs.receive() == item
        assert written == [0] * 4
        assert ours.statistics().messages_sent == theirs.statistics().messages_received == 7
        assert ours.statistics().bytes_sent == theirs.statistics().bytes_received
        await theirs.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"to nobody")
        assert ours.statistics().messages_sent == 7
    with pytest.raises(anyio.ClosedResourceError):
        await ours.send(b"closed")


@pytest.mark.anyio
async def test_a_channel_that_collects_descriptors_sends(written: list[Any]) -> None:
    """They are read in Python."""
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        for number in range(3):
            await ours.send(b"%d" % number)
            assert (await theirs.receive_message()).data == b"%d" % number
            await theirs.send(b"%d" % number)
            assert (await ours.receive_message()).data == b"%d" % number
    assert written == [0] * 4


@pytest.mark.anyio
async def test_the_limit(written: list[Any]) -> None:
    receiver, sender = aipc.pipe(max_message_size=3)
    async with receiver, sender:
        await sender.send(b"abc")
        with pytest.raises(MessageTooLarge, match="4 bytes"):
            await sender.send(b"abcd")
        await sender.send(b"abc")
        assert await receiver.receive_many() == [b"abc"] * 2
        await sender.send_eof()
        with pytest.raises(anyio.ClosedResourceError):
            await sender.send(b"abc")
    assert written == [0]


@pytest.mark.anyio
async def test_a_part_is_taken(written: list[Any]) -> None:
    """A pipe that is nearly full takes the beginning of a message of over PIPE_BUF bytes (pipe(7)): the sender waits for the rest."""
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        fcntl.fcntl(sender.extra(aipc.ChannelAttribute.descriptor), fcntl.F_SETPIPE_SZ, SMALLEST)
        await sender.send(b"first")
        item = os.urandom(SMALLEST)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send, item)
                await settle()
                tasks.start_soon(sender.send, b"behind")
                await settle()
                tasks.start_soon(sender.send, item)
                tasks.start_soon(sender.send, b"last")
                got = [await receiver.receive() for _ in range(5)]
        assert sorted(got) == sorted([b"first", item, b"behind", item, b"last"])
        assert sender.statistics().bytes_sent == sum(map(len, got)) + 4 * 5
        assert sender.statistics().messages_sent == 5
    assert 0 < written[0] < SMALLEST


@pytest.mark.anyio
async def test_a_part_of_a_cancelled_send(written: list[Any]) -> None:
    """What was begun is finished, and the next message follows it."""
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        fcntl.fcntl(sender.extra(aipc.ChannelAttribute.descriptor), fcntl.F_SETPIPE_SZ, SMALLEST)
        await sender.send(b"first")
        item = os.urandom(SMALLEST)
        with anyio.move_on_after(0.01):
            await sender.send(item)
        assert 0 < written[-1] < SMALLEST
        with anyio.fail_after(10):
            assert [await receiver.receive(), await receiver.receive()] == [b"first", item]
            await sender.send(b"next")
            assert await receiver.receive() == b"next"


@pytest.mark.anyio
async def test_the_rest_of_a_part_comes_first(written: list[Any]) -> None:
    """Also while no task waits to send it."""
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        fcntl.fcntl(sender.extra(aipc.ChannelAttribute.descriptor), fcntl.F_SETPIPE_SZ, 2 * SMALLEST)
        item, framed = os.urandom(2 * SMALLEST), framing("u32").encode
        sender.send_nowait(b"first")
        sender.send_nowait(item)
        got = os.read(receiver.extra(aipc.ChannelAttribute.descriptor), 2 * SMALLEST)
        with anyio.fail_after(10):
            await sender.send(b"behind")
            while len(got) < 9 + 4 + len(item) + 10:
                got += os.read(receiver.extra(aipc.ChannelAttribute.descriptor), 2 * SMALLEST)
                await settle()
        assert got == framed(b"first") + framed(item) + framed(b"behind")
    assert not written


@pytest.mark.anyio
async def test_a_forked_childs_copy_sends_nothing(written: list[Any]) -> None:
    ours, theirs = aipc.channel_pair("stream")

    def send() -> None:
        with pytest.raises(aipc.ForkedError):
            ours.send(b"from the child").send(None)
        assert not written

    async with ours, theirs:
        await ours.send(b"first")
        in_child(send)
        await ours.send(b"second")
        assert await theirs.receive_many() == [b"first", b"second"]


@pytest.mark.anyio
@pytest.mark.usefixtures("written")
async def test_a_sender_gives_others_their_turn() -> None:
    receiver, sender = aipc.pipe()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with receiver, sender, anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(1_000):
            await sender.send(b"a")
        tasks.cancel_scope.cancel()
    assert turns >= 4  # after each 128 messages


@pytest.mark.anyio
async def test_a_deadly_signal_is_left_to_python(written: list[Any]) -> None:
    """Where SIGPIPE has its default action, each write is guarded."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        receiver, sender = aipc.pipe()
        async with receiver, sender:
            await sender.send(b"first")
            await sender.send(b"second")
            await receiver.aclose()
            with pytest.raises(anyio.BrokenResourceError):
                await sender.send(b"to nobody")
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not written


@pytest.mark.anyio
@pytest.mark.usefixtures("written")
async def test_a_closed_channel_writes_to_nothing_else() -> None:
    """Its descriptor's number is used again, by another object."""
    ours, theirs = aipc.channel_pair("stream")
    async with theirs:
        for _ in range(2):
            await ours.send(b"a")
        number = ours.extra(aipc.ChannelAttribute.descriptor)
        ours.close()
        one, another = socket.socketpair()
        with one, another:
            assert number in (one.fileno(), another.fileno())
            with pytest.raises(anyio.ClosedResourceError):
                await ours.send(b"lost")
            with pytest.raises(anyio.ClosedResourceError):
                ours.send_nowait(b"lost")
            for sock in (one, another):
                with pytest.raises(BlockingIOError):
                    sock.recv(100, socket.MSG_DONTWAIT)
            for sock in (one, another):
                sock.send(b"\0\0\0\0")
            with pytest.raises(anyio.ClosedResourceError):
                await ours.receive()
