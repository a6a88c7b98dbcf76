"""FIFOs: who waits for whom at opening, and how a stream ends. Many writers: test_fifo_writers.py."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys import pipes
from aipc.abc import Channel, ChannelAttribute
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle

from ...peers import process
from .fifos import plain_writer, receiving, sending

pytestmark = pytest.mark.anyio


# Opening


async def test_receiver_opens_at_once_and_waits_for_its_first_writer(path: Path) -> None:
    """Nobody there is not the end."""
    async with receiving(path) as receiver:
        with pytest.raises(anyio.WouldBlock):
            receiver.receive_nowait()
        got: list[bytes] = []

        async def receive() -> None:
            got.extend([message async for message in receiver])

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await settle()
                async with sending(path) as sender:
                    await settle()
                    await sender.send(b"first")
        assert got == [b"first"]


async def test_writer_that_comes_and_leaves_in_silence_is_the_end(path: Path) -> None:
    async with receiving(path) as receiver:

        async def expect_end() -> None:
            with pytest.raises(anyio.EndOfStream):
                await receiver.receive()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_end)
                await settle()
                os.close(plain_writer(path))
    async with receiving(path) as receiver:
        os.close(plain_writer(path))
        with pytest.raises(anyio.EndOfStream):
            receiver.receive_nowait()


async def test_an_earlier_writer_is_not_this_receivers_end(path: Path) -> None:
    async with receiving(path):
        os.close(plain_writer(path))
        async with receiving(path) as later:
            with pytest.raises(anyio.WouldBlock):
                later.receive_nowait()


async def test_end_is_for_good(path: Path) -> None:
    """A later writer's messages are for a receiver that is opened for them, or had `keep_open`."""
    async with receiving(path) as receiver:
        async with sending(path) as sender:
            await sender.send(b"last")
        assert await receiver.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await receiver.receive()
        async with receiving(path) as next_one, sending(path) as sender:
            await sender.send(b"next")
            with pytest.raises(anyio.EndOfStream):
                await receiver.receive()
            assert await next_one.receive() == b"next"


async def test_receiver_that_outlives_its_writers(path: Path) -> None:
    async with receiving(path, keep_open=True) as receiver:
        descriptor = receiver.extra(ChannelAttribute.descriptor)
        for number in range(3):
            async with sending(path, wait=False) as sender:
                await sender.send(b"%d" % number)
            with anyio.fail_after(10):
                assert await receiver.receive() == b"%d" % number
            with pytest.raises(anyio.WouldBlock):
                receiver.receive_nowait()
            assert pipes.events(descriptor) == 0  # so that no loop spins on it


async def test_sender_that_outlives_its_receivers(path: Path) -> None:
    async with sending(path, keep_open=True) as sender:
        await sender.send(b"kept")
        for number in range(3):
            async with receiving(path) as receiver:
                assert await receiver.receive() == (b"%d" % (number - 1) if number else b"kept")
            await sender.send(b"%d" % number)
        with pytest.raises(aipc.UnsupportedOperation):
            await sender.receive()


async def test_sender_waits_for_a_receiver(path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        sent = anyio.Event()

        async def send() -> None:
            async with sending(path) as sender:
                await sender.send(b"at last")
                sent.set()

        tasks.start_soon(send)
        await settle()
        assert not sent.is_set()
        async with receiving(path) as receiver:
            with anyio.fail_after(10):
                assert await receiver.receive() == b"at last"


async def test_sender_sees_a_receiver_that_waits_in_open(path: Path) -> None:
    """Of such a one inotify(7) tells nothing."""
    with process("cat", str(path)) as cat, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send(b"hello")
        assert cat.communicate(timeout=10)[0] == "hello\n"


async def test_sender_follows_a_fifo_that_is_made_anew(path: Path) -> None:
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            async with sending(path) as sender:
                await sender.send(b"found")

        tasks.start_soon(send)
        await settle()
        os.mkfifo(path.with_name("new"))
        path.with_name("new").rename(path)
        async with receiving(path) as receiver:
            with anyio.fail_after(10):
                assert await receiver.receive() == b"found"


async def test_sender_that_does_not_wait(path: Path) -> None:
    with pytest.raises(aipc.NobodyListens, match="wait=1"):
        await sending(path, wait=False)
    with pytest.raises(aipc.NobodyListens):
        await sending(path.with_name("new"), wait=False, create=True)
    assert list(path.parent.iterdir()) == [path]
    async with receiving(path), sending(path, wait=False) as sender:
        await sender.send(b"x")


async def test_receiver_that_waits_for_a_writer(path: Path) -> None:
    """As open(2) does: for a writer, whether or not it writes."""
    opened = anyio.Event()

    async def receive() -> None:
        async with receiving(path, wait=True) as receiver:
            opened.set()
            assert [message async for message in receiver] == [b"one", b"two"]

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await settle()
            assert not opened.is_set()
            async with sending(path) as sender:
                await opened.wait()
                await sender.send_many([b"one", b"two"])
        async with anyio.create_task_group() as tasks:  # what came before it looked is read ahead, and kept
            tasks.start_soon(receive)
            await anyio.lowlevel.checkpoint()
            async with sending(path, keep_open=True) as sender:
                await sender.send_many([b"one", b"two"])
                async with sending(path, wait=False):
                    await settle()


@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", range(4))
async def test_cancelled_opening_leaves_nothing(direction: str, at: int, moment: Moment, tmp_path: Path) -> None:
    async def opening() -> Channel:
        return await aipc.open_channel(
            f"fifo:{tmp_path}/fifo", direction=direction, create=True, unlink=True, wait=True, max_message_size=3
        )

    with anyio.fail_after(10):
        assert await inject(opening(), at, moment) is CANCELLED
    assert list(tmp_path.iterdir()) == []


async def test_failed_opening_leaves_what_was_there(path: Path) -> None:
    with anyio.move_on_after(0.01):
        await sending(path, create=True, unlink=True)
    assert path.exists()


# Ends


async def test_a_message_cut_short(path: Path) -> None:
    async with receiving(path) as receiver:
        writer = plain_writer(path)
        os.write(writer, b"\0\0\0\x05hello\0\0\0\x05he")
        os.close(writer)
        assert await receiver.receive() == b"hello"
        with pytest.raises(aipc.ProtocolError):
            await receiver.receive()


async def test_a_long_message_cut_short(path: Path) -> None:
    async with receiving(path) as receiver:
        writer = plain_writer(path)
        os.write(writer, b"\0\2\0\0" + bytes(5))
        os.close(writer)
        with pytest.raises(aipc.ProtocolError):
            await receiver.receive()


async def test_attributes(path: Path) -> None:
    async with receiving(path, capacity=5_000, max_message_size=100) as receiver, sending(path) as sender:
        assert receiver.extra(ChannelAttribute.capacity) == sender.extra(ChannelAttribute.capacity) == 8_192
        await sender.send(b"hello")
        assert receiver.extra(ChannelAttribute.unread) == sender.extra(ChannelAttribute.unread) == 9
        assert receiver.extra(ChannelAttribute.max_message_size) == 100
        await receiver.receive()
        assert receiver.extra(ChannelAttribute.unread) == 0
