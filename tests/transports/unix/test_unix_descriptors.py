"""Descriptors beside messages over Unix stream sockets: whose they are, close-on-exec, and none ever left open."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from array import array
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import ChannelAttribute

from ...subjects import fill

pytestmark = pytest.mark.anyio


def new_file(content: bytes) -> int:
    """A descriptor to pass, telling by its content which one it is."""
    fd = os.memfd_create("passed", 0)
    os.write(fd, content)
    return fd


def content(fd: int) -> bytes:
    return os.pread(fd, 100, 0)


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_arrive_with_their_message() -> None:
    ours, theirs = aipc.channel_pair()
    files = [new_file(b"%d" % number) for number in range(4)]
    async with ours, theirs:
        await ours.send(b"none")
        await ours.send(b"two", fds=files[:2])
        await ours.send(b"none again")
        ours.send_nowait(b"one", fds=files[2:3])
        await ours.send(b"", fds=files[3:])
        got = [await theirs.receive_message() for _ in range(5)]
        assert [message.data for message in got] == [b"none", b"two", b"none again", b"one", b""]
        assert [[content(fd) for fd in message.fds] for message in got] == [[], [b"0", b"1"], [], [b"2"], [b"3"]]
        assert not any(os.get_inheritable(fd) for message in got for fd in message.fds)
        close(*(fd for message in got for fd in message.fds))
    close(*files)


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_arrive_with_a_long_message(size: int) -> None:
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"long")
    async with ours, theirs, anyio.create_task_group() as tasks:

        async def send() -> None:
            await ours.send(bytes(size), fds=[fd])
            await ours.send(b"next")

        tasks.start_soon(send)
        message = await theirs.receive_message()
        assert (len(message.data), [content(fd) for fd in message.fds]) == (size, [b"long"])
        assert await theirs.receive_message() == aipc.Message(b"next")
        close(*message.fds)
    close(fd)


async def test_plain_receives_leave_none_open(place: Path) -> None:
    url = f"unix:{place}/socket"
    fd = new_file(b"x")
    async with aipc.listen(url, fds=True) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
        await ours.send(b"warm")
        await theirs.receive()
        before = descriptors()
        for _ in range(4):
            await ours.send(b"message", fds=[fd, fd])
        assert await theirs.receive() == b"message"
        assert await theirs.receive_many(1) == [b"message"]
        assert await theirs.__anext__() == b"message"
        message = await theirs.receive_message()
        assert descriptors() == before + 2
        close(*message.fds)
        await ours.send(b"never taken", fds=[fd])
        await ours.send(b"half taken", fds=[fd])
        await theirs.receive()
        await theirs.aclose()
        assert descriptors() == before - 1
    close(fd)


async def test_a_part_of_a_frame_brings_them() -> None:
    """A peer may send header and body apart: the descriptors are its message's, whichever part they came with."""
    ours, theirs = aipc.channel_pair()
    raw = socket.socket(fileno=os.dup(ours.extra(ChannelAttribute.descriptor)))
    files = [new_file(b"header"), new_file(b"body"), new_file(b"next")]

    def send(data: bytes, fd: int) -> None:
        raw.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))])

    async with ours, theirs:
        await ours.send(b"collect from here on")
        await theirs.receive_message()
        send(b"\0\0", files[0])
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()
        send(b"\0\4bo", files[1])
        send(b"dy" + b"\0\0\0\1", files[2])
        first = await theirs.receive_message()
        raw.send(b"n")
        second = await theirs.receive_message()
        assert (first.data, [content(fd) for fd in first.fds]) == (b"body", [b"header", b"body"])
        assert (second.data, [content(fd) for fd in second.fds]) == (b"n", [b"next"])
        close(*first.fds, *second.fds)
    raw.close()
    close(*files)


async def test_refused_before_anything_is_sent(place: Path) -> None:
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"x")
    async with ours, theirs:
        with pytest.raises(aipc.LimitExceeded, match="254 descriptors; one message carries at most 253"):
            await ours.send(b"too many", fds=[fd] * 254)
        closed = os.dup(fd)
        os.close(closed)
        with pytest.raises(aipc.InvalidMessage, match="not all of them are open"):
            await ours.send(b"closed", fds=[closed])
        with pytest.raises(aipc.UnsupportedOperation, match="one message"):
            await ours.send_many([b"1", b"2"], fds=[fd])
        await ours.send(b"many", fds=[fd] * 253)
        message = await theirs.receive_message()
        assert (message.data, len(message.fds)) == (b"many", 253)
        close(*message.fds)
    url = f"unix:{place}/raw?framing=none"
    async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept():
        with pytest.raises(aipc.InvalidMessage, match="at least one byte"):
            await ours.send(b"", fds=[fd])
    close(fd)


async def test_no_room_for_them() -> None:
    """At RLIMIT_NOFILE the message comes without them, and says so; none of them stays open."""
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"x")
    async with ours, theirs:
        await ours.send(b"with", fds=[fd] * 8)
        await ours.send(b"later", fds=[fd])
        theirs.extra(ChannelAttribute.peer_credentials)  # makes the socket object now
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = descriptors()
        lowest_free = os.dup(fd)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 4, hard))
        try:
            message = await theirs.receive_message()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert message == aipc.Message(b"with", truncated=True)
        assert descriptors() == before
        message = await theirs.receive_message()
        assert (message.data, message.truncated, [content(fd) for fd in message.fds]) == (b"later", False, [b"x"])
        close(*message.fds)
    close(fd)


async def test_a_hundred_thousand() -> None:
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"x")
    passed = 0
    async with ours, theirs:
        await ours.send(b"warm")
        await theirs.receive_message()
        before = descriptors()
        while passed < 100_000:
            for _ in range(4):
                await ours.send(b"batch", fds=[fd] * 50)
            for _ in range(4):
                message = await theirs.receive_message()
                assert len(message.fds) == 50
                assert not any(map(os.get_inheritable, message.fds))
                close(*message.fds)
                passed += 50
        assert descriptors() == before
    close(fd)


async def test_to_another_process(place: Path) -> None:
    """A child's inherited Unix socket takes descriptors, too."""
    code = """
import asyncio, os, sys, aipc
async def main():
    async with aipc.open_channel(f"fd:{sys.argv[1]}") as channel:
        message = await channel.receive_message()
        await channel.send(os.pread(message.fds[0], 100, 0) + b" seen", fds=message.fds)
asyncio.run(main())
"""
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"shared")
    async with ours:
        async with theirs:
            number = theirs.extra(ChannelAttribute.descriptor)
            child = subprocess.Popen([sys.executable, "-c", code, str(number)], pass_fds=[number])
        await ours.send(b"look", fds=[fd])
        message = await ours.receive_message()
        assert message.data == b"shared seen"
        assert os.path.samestat(os.fstat(message.fds[0]), os.fstat(fd))
        close(*message.fds)
        with pytest.raises(anyio.EndOfStream):
            await ours.receive()
        assert await anyio.to_thread.run_sync(child.wait) == 0
    close(fd)


async def test_cancelled_sends_pass_none(place: Path) -> None:
    ours, theirs = aipc.channel_pair()
    fd = new_file(b"x")
    async with ours, theirs:
        filled = fill(ours, bytes(30_000))
        with anyio.move_on_after(0.01) as scope:
            await ours.send(b"waits", fds=[fd])
        assert scope.cancelled_caught
        got = [await theirs.receive_message() for _ in range(filled)]
        assert got == [aipc.Message(bytes(30_000))] * filled
        await ours.send(b"end")
        assert await theirs.receive_message() == aipc.Message(b"end")
    close(fd)
