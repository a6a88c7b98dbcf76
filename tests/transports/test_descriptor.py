from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel

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
    directory = os.open(place, os.O_RDONLY)
    with pytest.raises(aipc.WrongObject, match="is not a pipe"):
        await aipc.open_channel(f"fd:{directory}")
    os.close(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(aipc.WrongObject, match="is not a pipe"):
        await aipc.open_channel(f"fd:{sock.fileno()}")


async def test_what_others_share_stays_blocking() -> None:
    """O_NONBLOCK belongs to the open file description: a parent, or the shell, would read EAGAIN from its own copy."""
    ends = os.pipe()
    terminal = os.openpty()
    kept = [os.dup(fd) for fd in (*ends, terminal[1])]
    try:
        async with (
            aipc.open_channel(f"fd:{ends[0]},{ends[1]}", framing="lines") as pipe,
            aipc.open_channel(f"fd:{terminal[1]}", framing="lines") as line,
        ):
            assert [os.get_blocking(fd) for fd in kept] == [True, True, True]
            assert [os.get_blocking(fd) for fd in (*ends, terminal[1])] == [False, False, False]
            assert [os.get_inheritable(fd) for fd in ends] == [False, False]
            os.write(kept[1], b"pipe\n")
            os.write(terminal[0], b"terminal\n")
            with anyio.fail_after(10):
                assert [await pipe.receive(), await line.receive()] == [b"pipe", b"terminal"]
            assert pipe.extra(aipc.ChannelAttribute.descriptor) == ends[0]
    finally:
        for fd in (*kept, terminal[0]):
            os.close(fd)


async def test_terminals_master_stays_itself() -> None:
    master, slave = os.openpty()
    async with aipc.open_channel(f"fd:{master}", framing="lines") as channel:
        os.write(slave, b"through\n")
        with anyio.fail_after(10):
            assert (await channel.receive()).strip() == b"through"
    os.close(slave)


async def test_fifo_without_a_reader(place: Path) -> None:
    """It can't be opened anew: then it is taken as it is."""
    os.mkfifo(place / "fifo")
    reading = os.open(place / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(place / "fifo", os.O_WRONLY)
    os.close(reading)
    async with aipc.open_channel(f"fd:{writing}") as sender:
        with pytest.raises(anyio.BrokenResourceError):
            await sender.send(b"nobody")


TALKER = """
import asyncio, os, sys, aipc
async def main():
    async with aipc.open_channel(f"fd:{sys.argv[1]}") as channel:
        for number in range(200):
            start = b"%s %d " % (sys.argv[2].encode(), number)
            await channel.send(start + sys.argv[2].encode() * (4_092 - len(start)))
asyncio.run(main())
"""


@pytest.mark.costly
async def test_many_writers_of_a_pipe() -> None:
    """Up to PIPE_BUF, with its length, a message of one process stays apart from another's."""
    receiver, sender = aipc.pipe()
    fd = sender.extra(aipc.ChannelAttribute.descriptor)
    names = "abcd"
    children = [subprocess.Popen([sys.executable, "-c", TALKER, str(fd), name], pass_fds=[fd]) for name in names]
    await sender.aclose()
    async with receiver:
        with anyio.fail_after(30):
            got = [message async for message in receiver]
    assert [child.wait(10) for child in children] == [0] * len(names)
    for name in names:
        starts = [f"{name} {number} " for number in range(200)]
        expected = [(start + name * (4_092 - len(start))).encode() for start in starts]
        assert [message for message in got if message.startswith(name.encode())] == expected


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("child_sends", [True, False])
def test_forked_child_opens_an_end_by_its_number(loop: str, child_sends: bool) -> None:
    ends = dict(zip(("receive", "send"), aipc.pipe(), strict=True))
    child_has, parent_has = ("send", "receive") if child_sends else ("receive", "send")
    fd = ends[child_has].extra(aipc.ChannelAttribute.descriptor)

    async def use(channel: Channel, *, sends: bool) -> None:
        async with channel:
            if sends:
                await channel.send_many([b"across", b"a fork"])
            else:
                assert [message async for message in channel] == [b"across", b"a fork"]

    async def in_child() -> None:
        os.close(ends[parent_has].extra(aipc.ChannelAttribute.descriptor))
        with anyio.fail_after(10):
            await use(await aipc.open_channel(f"fd:{fd}"), sends=child_sends)

    async def in_parent() -> None:
        ends[child_has].close()
        with anyio.fail_after(10):
            await use(ends[parent_has], sends=not child_sends)

    def on_loop(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        backend = "trio" if loop == "trio" else "asyncio"
        anyio.run(function, backend=backend, backend_options={} if loop == "trio" else {"use_uvloop": loop == "uvloop"})

    child = os.fork()
    if not child:
        status = 1
        try:
            on_loop(in_child)
            status = 0
        finally:
            os._exit(status)
    on_loop(in_parent)
    assert os.waitpid(child, 0)[1] == 0
