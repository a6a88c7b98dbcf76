"""A client that does as it likes with the ring, once it has been accepted: errors, and nothing else."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.exceptions import AipcError, MessageTooLarge
from aipc.testing.expect import settle

from .hostile import CONSUMED, GOOD, PART, PUBLISHED, SLEEPS, THEIRS, Numbers, Raw, memfd

ERRORS = (AipcError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.WouldBlock)


@pytest.mark.costly
@pytest.mark.anyio
async def test_flood_of_rings(place: Path) -> None:
    """A doorbell that never stops keeps nobody from the loop, nor from the message that comes in the end."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
            raw.offer([fd])
            raw.socket.setblocking(False)
            got: list[bytes] = []

            async def receive() -> None:
                got.append(await channel.receive())

            async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                with anyio.fail_after(30):
                    tasks.start_soon(receive)
                    for _ in range(200):
                        with suppress(BlockingIOError):
                            while True:
                                raw.socket.send(b"x" * 4096)
                        await settle()
                    with memoryview(mapped) as plain, plain.cast("Q") as words:
                        assert got == []
                        words[(4096 + 4096) // 8] = 5
                        mapped[8200:8205] = b"hello"
                        words[THEIRS + PUBLISHED] = 16
                    raw.socket.close()
                    while not got:
                        await settle()
                    with pytest.raises(anyio.EndOfStream):
                        await channel.receive()
    assert got == [b"hello"]


@pytest.mark.anyio
async def test_announced_too_large(place: Path) -> None:
    """A long message in parts is refused at its first one, before memory for it is taken."""
    ours, theirs = aipc.channel_pair("shm")
    async with ours, theirs, aipc.listen(f"shm:{place}/ring", max_message_size=1000) as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
            raw.offer([fd])
            with memoryview(mapped) as plain, plain.cast("Q") as words:
                words[1024], words[1025] = PART | 16, 1001
                words[THEIRS + PUBLISHED] = 24
            async with await listener.accept() as channel:
                for _ in range(2):
                    with anyio.fail_after(10), pytest.raises(MessageTooLarge):
                        await channel.receive()


async def misuse(channel: Channel, raw: Raw, words: memoryview, numbers: Numbers) -> Iterable[str]:
    """Write anything into the ring, and use the channel meanwhile: only errors that it names; what came of each use."""
    outcomes = []
    for index in (THEIRS + PUBLISHED, CONSUMED, SLEEPS[0], THEIRS + SLEEPS[1], 1024, 1025):
        words[index] = numbers.any()
    if numbers.any() % 2:
        raw.socket.close()
    operations = (channel.receive, partial(channel.send, b"x"), channel.receive_many, partial(channel.send, bytes(5000)))
    for operation in operations:
        outcome = "waits"
        with anyio.move_on_after(0.001):
            try:
                await operation()
                outcome = "done"
            except ERRORS as error:
                outcome = type(error).__name__
        outcomes.append(outcome)
    return outcomes


@pytest.mark.costly
@pytest.mark.anyio
async def test_a_thousand_hostile_clients(place: Path) -> None:
    numbers = Numbers(3, 4096)
    outcomes: set[str] = set()
    async with aipc.listen(f"shm:{place}/ring") as listener:
        for _ in range(1_000):
            with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
                raw.offer([fd])
                with memoryview(mapped) as plain, plain.cast("Q") as words:
                    async with await listener.accept() as channel:
                        outcomes.update(await misuse(channel, raw, words, numbers))
                        with suppress(*ERRORS):
                            channel.receive_nowait()
    assert outcomes == {"done", "waits", "ProtocolError", "MessageTooLarge", "EndOfStream", "BrokenResourceError"}
