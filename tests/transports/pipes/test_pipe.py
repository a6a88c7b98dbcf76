"""Pipes: two ends, each for one direction; and other programs at the other end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess

import anyio
import pytest

import aipc
from aipc.abc import ChannelAttribute
from aipc.testing.expect import in_child, settle
from aipc.testing.leaks import descriptors
from aipc.transports.pipes.pipe import PipeChannel

from ... import peers

pytestmark = pytest.mark.anyio


async def test_directions() -> None:
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        with anyio.fail_after(10):
            with pytest.raises(aipc.UnsupportedOperation, match="only receives"):
                await receiver.send(b"wrong way")
            with pytest.raises(aipc.UnsupportedOperation, match="only receives"):
                receiver.send_nowait(b"wrong way")
            with pytest.raises(aipc.UnsupportedOperation, match="only receives"):
                await receiver.send_eof()
            with pytest.raises(aipc.UnsupportedOperation, match="only sends"):
                await sender.receive()
            with pytest.raises(aipc.UnsupportedOperation, match="only sends"):
                sender.receive_nowait()
            with pytest.raises(aipc.UnsupportedOperation, match="only sends"):
                async for _ in sender:
                    pass
            await sender.send(b"right way")
            assert await receiver.receive() == b"right way"


async def test_end_wakes_a_waiting_receiver() -> None:
    receiver, sender = aipc.pipe()
    got: list[bytes] = []

    async def receive() -> None:
        got.extend([message async for message in receiver])
        got.append(b"end")

    async with receiver, sender, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            tasks.start_soon(receive)
            await settle()
            await sender.send(b"last")
            await sender.send_eof()
            await sender.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await sender.send(b"after the end")
    assert got == [b"last", b"end"]


async def test_bytes() -> None:
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        await sender.send(b"hello")
        assert os.read(receiver.extra(ChannelAttribute.descriptor), 100) == b"\0\0\0\x05hello"


async def test_batch_that_the_kernel_takes_up_to_the_end_of_a_message() -> None:
    """A pipe of sixteen pages takes sixteen frames of a page each, and the cancelled rest is not there to be finished."""
    receiver, sender = aipc.pipe()
    page = bytes(4_092)
    async with receiver, sender:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send_many, [page] * 20)
                await settle()
                tasks.cancel_scope.cancel()
            assert await receiver.receive_many() == [page] * 16
            assert sender.statistics().messages_sent == 16
            await sender.send(b"after")
            assert await receiver.receive() == b"after"


async def test_framing_and_limit() -> None:
    receiver, sender = aipc.pipe(framing="lines", max_message_size=5)
    async with receiver, sender:
        assert receiver.extra(ChannelAttribute.max_message_size) == 5
        os.write(sender.extra(ChannelAttribute.descriptor), b"one\ntwo\ntoo long")
        with anyio.fail_after(10):
            assert await receiver.receive_many() == [b"one", b"two"]
            with pytest.raises(aipc.MessageTooLarge):
                await receiver.receive()
            with pytest.raises(aipc.MessageTooLarge):
                await sender.send(b"sixsix")


async def test_capacity_and_fill_level() -> None:
    receiver, sender = aipc.pipe(capacity=100_000)
    async with receiver, sender:
        assert receiver.extra(ChannelAttribute.capacity) == sender.extra(ChannelAttribute.capacity) == 131_072
        assert receiver.extra(ChannelAttribute.unread) == 0
        sender.send_nowait(bytes(131_068))
        assert receiver.extra(ChannelAttribute.unread) == sender.extra(ChannelAttribute.unread) == 131_072
        assert await receiver.receive() == bytes(131_068)
        assert sender.extra(ChannelAttribute.unread) == 0
    with pytest.raises(anyio.ClosedResourceError):
        sender.extra(ChannelAttribute.capacity)


def test_more_capacity_than_allowed() -> None:
    """The error says where the limit is, and no descriptor is left open."""

    def use() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)
        before = descriptors()
        with pytest.raises(aipc.AccessDenied, match=r"capacity=1,000,000,000 .* /proc/sys/fs/pipe-max-size is [\d,]+"):
            aipc.pipe(capacity=1_000_000_000)
        assert descriptors() == before

    in_child(use)


async def test_unknown_framing() -> None:
    with pytest.raises(aipc.AddressError, match="u16"):
        aipc.pipe(framing="u16")


async def test_receives_from_a_program() -> None:
    receiver, sender = aipc.pipe(framing="lines")
    async with receiver, sender:
        command = ["printf", "one\\ntwo\\nthree"]
        with subprocess.Popen(command, stdout=sender.extra(ChannelAttribute.descriptor)), anyio.fail_after(10):
            await sender.aclose()
            assert [message async for message in receiver] == [b"one", b"two", b"three"]


async def test_sends_to_a_program() -> None:
    receiver, sender = aipc.pipe(framing="lines")
    async with receiver, sender:
        descriptor = receiver.extra(ChannelAttribute.descriptor)
        os.set_blocking(descriptor, True)
        with subprocess.Popen(["sort"], stdin=descriptor, stdout=subprocess.PIPE) as sort, anyio.fail_after(10):
            await receiver.aclose()
            await sender.send_many([b"two", b"one"])
            await sender.aclose()
            assert sort.communicate(timeout=10)[0] == b"one\ntwo\n"


MORTAL = """
import asyncio, os, signal, sys, anyio, aipc
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
async def main():
    if sys.argv[1] == "pipe":
        receiver, sender = aipc.pipe()
    elif sys.argv[1] == "fd":
        reading, writing = os.pipe()
        receiver, sender = await aipc.open_channel(f"fd:{reading}"), await aipc.open_channel(f"fd:{writing}")
    else:
        receiver, sender = aipc.channel_pair()
    for message in (b"short", bytes(200_000)):
        await receiver.aclose()
        for send in (sender.send, lambda message: sender.send_many([message, message])):
            try:
                await send(message)
            except anyio.BrokenResourceError:
                print("alive", flush=True)
    await sender.aclose()
    blocked = signal.SIGPIPE in signal.pthread_sigmask(0, [])
    print(signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL and not signal.sigpending(), blocked, flush=True)
    reading, writing = os.pipe()
    os.close(reading)
    os.write(writing, b"this is the end")
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["pipe", "fd", "pair"])
def test_lost_reader_kills_nobody(kind: str) -> None:
    """Not even where SIGPIPE has its default back; and it is the process's own again afterwards."""
    with peers.python(MORTAL, kind) as process:
        assert [peers.said(process) for _ in range(6)] == ["alive"] * 4 + ["True False", ""]
        assert process.wait(10) == -signal.SIGPIPE


async def test_never_closed() -> None:
    ends = list(aipc.pipe())
    with pytest.warns(ResourceWarning, match=r"pipe \(sending end\): never closed"):
        forget(ends)
    with pytest.warns(ResourceWarning, match=r"pipe \(receiving end\): never closed"):
        forget(ends)


def forget(channels: list[PipeChannel]) -> None:
    """Leave the last one to the garbage collector."""
    channels.pop()
    gc.collect()
