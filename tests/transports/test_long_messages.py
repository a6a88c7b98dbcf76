"""Long messages over a stream of bytes: what they cost, and that none keeps the loop."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc.abc import Channel

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@asynccontextmanager
async def connected(place: Path, framing: str, limit: int) -> AsyncIterator[tuple[Channel, Channel]]:
    url = f"unix:{place}/{framing.replace(':', '')}?framing={framing}&max_message_size={limit}"
    async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
        yield ours, theirs


async def cost(place: Path, framing: str, size: int) -> float:
    """Seconds of processor time for one message there."""
    message = b"x" * size
    async with connected(place, framing, size) as (ours, theirs):
        before = time.process_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, message)
            assert await theirs.receive() == message
        return time.process_time() - before


@pytest.mark.parametrize("framing", ["lines", "null", "fixed"])
async def test_cost_is_linear(framing: str, place: Path) -> None:
    """Eight times as long, ten times as dear at most; here twenty, as other processes disturb. It was sixty and more."""
    costs: dict[int, list[float]] = {4 * MIB: [], 32 * MIB: []}
    with anyio.fail_after(120):
        for _ in range(3):
            for size, measured in costs.items():
                name = f"fixed:{size}" if framing == "fixed" else framing
                measured.append(await cost(place, name, size))
    short, long = (min(measured) for measured in costs.values())
    assert long < 20 * short


@pytest.mark.parametrize("framing", ["lines", "null"])
async def test_bytes_behind_a_long_start(framing: str, place: Path) -> None:
    """A peer that sends most of a long message, and then single bytes, makes each of them as dear as the first ones, nearly."""

    def single_bytes() -> float:
        before = time.process_time()
        for _ in range(500):
            ours.send(b"y")
            with pytest.raises(anyio.WouldBlock):
                theirs.receive_nowait()
        return time.process_time() - before

    async with aipc.listen(f"unix:{place}/socket", framing=framing) as listener:
        with closing(socket.socket(socket.AF_UNIX)) as ours:
            ours.connect(f"{place}/socket")
            async with await listener.accept() as theirs:
                first = single_bytes()
                for _ in range(12 * 16):
                    ours.send(b"x" * 65_536)
                    with pytest.raises(anyio.WouldBlock):
                        theirs.receive_nowait()
                assert single_bytes() < 10 * first


@pytest.mark.parametrize("framing", ["lines", "null"])
@pytest.mark.parametrize("pieces", [[100], [60, 60], [1] * 101, [100, 1], [101]], ids=str)
@pytest.mark.parametrize("ended", [False, True])
async def test_no_delimiter_within_the_limit(framing: str, pieces: list[int], ended: bool, place: Path) -> None:
    """The first message is refused as any other, wherever its delimiter stands; one of the limit's length is received."""
    delimiter = {"lines": b"\n", "null": b"\0"}[framing]
    fits = sum(pieces) <= 100
    async with aipc.listen(f"unix:{place}/socket", framing=framing, max_message_size=100) as listener:
        with closing(socket.socket(socket.AF_UNIX)) as ours:
            ours.connect(f"{place}/socket")
            async with await listener.accept() as theirs:
                for number, size in enumerate(pieces):
                    last = ended and number == len(pieces) - 1
                    ours.send(b"x" * size + delimiter * last)
                    if number < len(pieces) - 1:
                        with pytest.raises(anyio.WouldBlock):
                            theirs.receive_nowait()
                if fits and ended:
                    assert theirs.receive_nowait() == b"x" * 100
                for _ in range(2):
                    with pytest.raises(anyio.WouldBlock if fits else aipc.MessageTooLarge):
                        theirs.receive_nowait()


async def turns_while_receiving(channel: Channel, expected: bytes | type[Exception]) -> int:
    """How often the loop turned meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await anyio.lowlevel.checkpoint()
        turns = 0
        if isinstance(expected, bytes):
            assert await channel.receive() == expected
        else:
            with pytest.raises(expected):
                await channel.receive()
        tasks.cancel_scope.cancel()
    return turns


@pytest.mark.parametrize("framing", ["lines", f"fixed:{64 * MIB}"])
async def test_endless_source_does_not_keep_the_loop(framing: str) -> None:
    """/dev/zero always has more: other tasks run all the same, within one message."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    async with aipc.open_channel(f"fd:{zeros}", framing=framing, max_message_size=64 * MIB) as channel:
        expected = aipc.MessageTooLarge if framing == "lines" else bytes(64 * MIB)
        with anyio.fail_after(60):
            assert await turns_while_receiving(channel, expected) >= 5


async def test_cancelled_between_two_turns() -> None:
    """What was read of the message stays with the channel."""
    zeros = os.open("/dev/zero", os.O_RDONLY)
    async with aipc.open_channel(f"fd:{zeros}", framing=f"fixed:{64 * MIB}", max_message_size=64 * MIB) as channel:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.receive)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        begun = channel.statistics().bytes_received
        assert 0 < begun < 64 * MIB
        assert await channel.receive() == bytes(64 * MIB)
        assert channel.statistics().bytes_received == 64 * MIB
