"""A message that one call in C reads from a Unix socket: as Python would, and it knows whether there is more."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc._io.loop.spin import Spin
from aipc.exceptions import MessageTooLarge
from aipc.transports import byte_stream
from aipc.transports.unix.stream_channel import UnixChannel
from aipc.wire.framing import framing

from . import native, needs_native

pytestmark = needs_native
KINDS = {"u32": 4, "u32le": -4, "u64": 8}
FRAME = framing("u32").encode
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def receive(ours: socket.socket, name: str = "u32", limit: int = 1000) -> Any:
    return native.receive(ours.fileno(), KINDS[name], limit)


def send_with_descriptor(sock: socket.socket, data: bytes) -> None:
    with open(os.devnull, "rb") as file:
        socket.send_fds(sock, [data], [file.fileno()])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("message", [b"", b"a", b"x" * 1000])
def test_one_message(ends: Ends, name: str, message: bytes) -> None:
    ours, theirs = ends
    theirs.send(framing(name).encode(message))
    assert receive(ours, name) == (message, True, True)
    with pytest.raises(BlockingIOError):
        receive(ours, name)


@pytest.mark.parametrize(
    "data", [b"\0", b"\0\0\0", FRAME(b"abc")[:-1], FRAME(b"abc") + b"\0", FRAME(b"a") * 2, FRAME(b"x" * 1001)]
)
def test_anything_else_comes_as_it_is(ends: Ends, data: bytes) -> None:
    ours, theirs = ends
    theirs.send(data)
    assert receive(ours) == (data, False, True)


def test_the_end_and_a_failure(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    assert receive(ours) == (b"", False, False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        native.receive(-1, 4, 10)
    with pytest.raises(TypeError):
        native.receive(ours.fileno(), 4)


def test_there_may_be_more(ends: Ends) -> None:
    """Behind a full read, and behind descriptors, where the kernel ends each read (unix(7)). They are dropped, as read(2) drops them."""
    ours, theirs = ends
    data = FRAME(b"x" * (native.MOST_READ - 4))
    theirs.send(data)
    assert receive(ours, limit=1 << 20) == (data, False, False)
    read, write = os.pipe()
    socket.send_fds(theirs, [FRAME(b"a")], [write])
    theirs.send(FRAME(b"b"))
    os.close(write)
    assert receive(ours) == (b"a", True, False)
    assert receive(ours) == (b"b", True, True)
    assert os.read(read, 1) == b""  # nobody has the other end any more
    os.close(read)


@pytest.mark.anyio
async def test_messages_behind_descriptors(ends: Ends) -> None:
    """Both are there when the task wakes, and one event tells of both."""
    ours, theirs = ends
    got: list[bytes] = []

    async def work() -> None:
        for _ in range(4):
            got.append(await channel.receive())

    async with await aipc.open_channel(f"fd:{ours.detach()}") as channel:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                theirs.send(FRAME(b"first"))
                await anyio.wait_all_tasks_blocked()
                send_with_descriptor(theirs, FRAME(b"second"))
                theirs.send(FRAME(b"third"))
                theirs.send(FRAME(b"last"))
    assert got == [b"first", b"second", b"third", b"last"]


@pytest.mark.anyio
@pytest.mark.parametrize("split", [0, 3, 6])
async def test_what_the_last_read_knew_is_forgotten(ends: Ends, split: int) -> None:
    """The start of a message is read in C, and its rest, up to a descriptor, in Python."""
    ours, theirs = ends
    got: list[bytes] = []

    async def work() -> None:
        for _ in range(3):
            got.append(await channel.receive())

    async with await aipc.open_channel(f"fd:{ours.detach()}") as channel:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                theirs.send(FRAME(b"first") + FRAME(b"second")[:split])
                await anyio.wait_all_tasks_blocked()
                send_with_descriptor(theirs, FRAME(b"second")[split:])
                theirs.send(FRAME(b"third"))
    assert got == [b"first", b"second", b"third"]


@pytest.mark.anyio
async def test_a_spin_forgets_it_too(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spin, "pays", lambda self, longest=0.0: True)
    monkeypatch.setattr(Spin, "brief", False)
    ours, theirs = ends
    async with await aipc.open_channel(f"fd:{ours.detach()}") as opened:
        channel = cast("UnixChannel", opened)
        got: list[bytes] = []

        async def work() -> None:
            got.append(await channel.receive())

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                theirs.send(FRAME(b"first"))
            assert channel._handle.readable.empty
            channel._handle.readable.quick = 32
            await channel.send(b"so that no other task has to")
            send_with_descriptor(theirs, FRAME(b"second"))
            theirs.send(FRAME(b"third"))
            got.append(await channel.receive())
            channel.never_spin()
            got.append(await channel.receive())
    assert got == [b"first", b"second", b"third"]


@pytest.mark.anyio
async def test_the_rest_of_a_message_that_looks_like_one(ends: Ends) -> None:
    ours, theirs = ends
    message = b"xx" + FRAME(b"within")
    got: list[bytes] = []

    async def work() -> None:
        got.append(await channel.receive())

    async with await aipc.open_channel(f"fd:{ours.detach()}") as channel:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                theirs.send(FRAME(message)[:6])
                await anyio.wait_all_tasks_blocked()
                theirs.send(FRAME(message)[6:])
    assert got == [message]


@pytest.mark.anyio
async def test_nothing_is_read_behind_an_error(ends: Ends) -> None:
    ours, theirs = ends
    async with await aipc.open_channel(f"fd:{ours.detach()}", max_message_size=10) as channel:
        theirs.send(FRAME(b"x" * 11))
        for _ in range(2):
            with pytest.raises(MessageTooLarge):
                await channel.receive()
            theirs.send(FRAME(b"too late"))


@pytest.mark.anyio
@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_in_random_pieces(ends: Ends, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    messages = [chance.randbytes(chance.choice([0, 1, 60, 4000, 16_380, 40_000])) for _ in range(200)]
    stream = b"".join(map(bytes, map(framing(name).encode, messages)))
    ours, theirs = ends
    reads: list[Any] = []

    class Native:
        def __getattr__(self, name: str) -> Any:
            return getattr(native, name)

        def receive(self, *arguments: Any) -> Any:
            found = native.receive(*arguments)
            reads.append(found)
            return found

    monkeypatch.setattr(byte_stream, "native", Native())

    async def write(rest: bytes) -> None:
        async with await aipc.open_channel(f"fd:{theirs.detach()}", framing="none") as raw:
            while rest:
                size = chance.choice([1, 3, 64, 5000, 30_000])
                await raw.send(rest[:size])
                rest = rest[size:]

    with anyio.fail_after(30):
        async with await aipc.open_channel(f"fd:{ours.detach()}", framing=name) as channel, anyio.create_task_group() as tasks:
            tasks.start_soon(write, stream)
            assert [message async for message in channel] == messages
            assert channel.statistics().bytes_received == len(stream)
            assert channel.statistics().messages_received == len(messages)
    assert reads
