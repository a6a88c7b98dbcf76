"""kill -9 of the ring's reader, or its writer at any moment: the living notice, and nothing of the dead is left."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.exceptions import ProtocolError

from ...peers import python, said, tell
from .rings import ECHO, echoed

pytestmark = pytest.mark.anyio


async def test_killed_reader_is_noticed(place: Path) -> None:
    """By a sender that sends little, long before the ring is full."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with python(ECHO, str(place), str(1 << 22)) as peer:
            async with await listener.accept() as channel:

                async def send_each(messages: list[bytes], channel: aipc.Channel = channel) -> None:
                    for message in messages:
                        await channel.send(message)

                await echoed(channel, [1])
                os.kill(peer.pid, signal.SIGKILL)
                peer.wait()
                with pytest.raises(anyio.BrokenResourceError):
                    await send_each([b"x"] * 1_000)


VICTIMS = """
import asyncio, os, random, signal, sys
import aipc
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def send(seed):
    numbers = random.Random(seed)
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring", capacity=65536) as channel:
        while True:
            size = numbers.choice([0, 10, 1000, 100_000, 300_000])
            await channel.send(bytes([size % 251]) * size)
for seed in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        asyncio.run(send(int(seed)))
    print(pid, flush=True)
"""


def resident() -> int:
    """Bytes of this process's own memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


async def test_killed_at_any_moment(place: Path) -> None:
    """What a killed sender had sent comes whole; then the end, or an error if it died in the middle. Memory and descriptors
    stay flat.
    """
    numbers = random.Random(4)
    ends = {"EndOfStream": 0, "ProtocolError": 0}
    memory_after: list[int] = []
    open_after: list[int] = []
    with python(VICTIMS, str(place)) as factory:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            for seed in range(40):
                tell(factory, str(seed))
                victim = int(said(factory))
                with anyio.fail_after(30):
                    async with await listener.accept() as channel:
                        expected = random.Random(seed)
                        last = numbers.randrange(12)
                        received = 0
                        try:
                            while True:
                                if received == last:
                                    os.kill(victim, signal.SIGKILL)
                                message = await channel.receive()
                                size = expected.choice([0, 10, 1000, 100_000, 300_000])
                                assert message == bytes([size % 251]) * size
                                received += 1
                        except (anyio.EndOfStream, ProtocolError) as end:
                            ends[type(end).__name__] += 1
                        with pytest.raises(anyio.BrokenResourceError):
                            await channel.send(b"to nobody")
                open_after.append(len(os.listdir("/proc/self/fd")))
                memory_after.append(resident())
    assert sum(ends.values()) == 40
    assert min(ends.values()) >= 1, ends
    assert max(open_after[20:]) <= max(open_after[:20])
    assert memory_after[-1] - memory_after[10] < 4 << 20


PEERS = """
import os, random, signal, sys
import anyio, aipc
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def talk(seed):
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring", capacity=16384) as channel, anyio.create_task_group() as tasks:
        numbers = random.Random(seed)
        async def send():
            while True:
                size = numbers.choice([0, 10, 1000, 30_000, 100_000])
                await channel.send(bytes([size % 251]) * size)
        tasks.start_soon(send)
        async for message in channel:
            assert message == bytes([len(message) % 251]) * len(message)
for seed in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        anyio.run(talk, int(seed))
    print(pid, flush=True)
"""
SIZES = [0, 10, 1000, 30_000, 100_000]


async def test_killed_while_both_talk(place: Path) -> None:
    """At a moment that nobody knows of: what came is whole and in order, and both tasks end, each with an error that has a name."""
    ends: set[str] = set()

    async def receive(channel: aipc.Channel, expected: random.Random) -> None:
        try:
            while True:
                message = await channel.receive()
                size = expected.choice(SIZES)
                assert message == bytes([size % 251]) * size
        except (anyio.EndOfStream, ProtocolError) as end:
            ends.add(type(end).__name__)

    async def send(channel: aipc.Channel, sizes: random.Random) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await send_each(channel, sizes)
        ends.add("BrokenResourceError")

    async def send_each(channel: aipc.Channel, sizes: random.Random) -> None:
        while True:
            size = sizes.choice(SIZES)
            await channel.send(bytes([size % 251]) * size)

    moments = random.Random(6)
    with python(PEERS, str(place)) as factory:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            for seed in range(15):
                tell(factory, str(seed))
                victim = int(said(factory))
                with anyio.fail_after(30):
                    async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                        tasks.start_soon(receive, channel, random.Random(seed))
                        tasks.start_soon(send, channel, random.Random(seed))
                        await anyio.sleep(moments.random() * 0.03)
                        os.kill(victim, signal.SIGKILL)
    assert "BrokenResourceError" in ends
