"""A short read says that a stream is empty, unless it ended for another reason: then nothing may stay behind."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc.testing.expect import settle

pytestmark = pytest.mark.anyio


async def lines_behind_a_wait(fd: int, write: Callable[[bytes], object], *behind: bytes) -> list[bytes]:
    """What comes after a first line, and after a wait, from which on the channel relies on edges. All is written at once."""
    got: list[bytes] = []

    async def receive() -> None:
        async for line in channel:
            got.append(line)
            if line == b"last":
                break

    async with await aipc.open_channel(f"fd:{fd}", framing="lines") as channel:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await settle()
                write(b"first\n")
                while not got:
                    await anyio.lowlevel.checkpoint()
                await settle()
                for data in behind:
                    write(data)
    return got[1:]


async def test_bytes_behind_urgent_data() -> None:
    """A read ends before the urgent byte, and what is behind that byte counts as unread only for poll(2) (tcp(7))."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def write(data: bytes) -> None:
            peer.send(data, socket.MSG_OOB if data == b"!" else 0)

        accepted = listener.accept()[0].detach()
        assert await lines_behind_a_wait(accepted, write, b"second\n", b"!", b"last\n") == [b"second", b"last"]


async def test_end_of_a_terminals_input() -> None:
    """Control-D behind a line is an end, but no byte (termios(3))."""
    ours, theirs = pty.openpty()
    try:
        assert await lines_behind_a_wait(theirs, lambda data: os.write(ours, data), b"second\n\x04") == [b"second"]
    finally:
        os.close(ours)


async def test_packets_of_a_pipe() -> None:
    """Each read takes one (pipe(2))."""
    read, write = os.pipe2(os.O_DIRECT)
    try:
        got = await lines_behind_a_wait(read, lambda data: os.write(write, data), b"second\n", b"third\n", b"last\n")
        assert got == [b"second", b"third", b"last"]
    finally:
        os.close(write)


async def test_message_in_more_pieces_than_one_turn_of_the_loop_reads() -> None:
    """A read ends behind descriptors (unix(7)). Once all has been read, the task parks, and takes no turns of the loop."""
    peer, ours = socket.socketpair()
    async with await aipc.open_channel(f"fd:{ours.detach()}", framing="lines") as channel, anyio.create_task_group() as tasks:
        for _ in range(40):
            socket.send_fds(peer, [b"x"], [peer.fileno()])
        tasks.start_soon(channel.receive)
        with anyio.fail_after(10):
            while not channel._handle.readable.waiting:  # type: ignore[attr-defined]
                await anyio.lowlevel.checkpoint()
        with peer:
            peer.send(b"\n")
