"""peek of sockets that keep messages apart (MSG_PEEK): the next message, which stays, on each of them."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, inject

from ..subjects import CHANNELS
from ..subjects.counts import times

pytestmark = pytest.mark.anyio
KINDS = ["udp", "unix+dgram", "unix+seqpacket"]


@pytest.mark.parametrize("kind", KINDS)
async def test_shows_and_takes_nothing(kind: str, place: Path) -> None:
    async with CHANNELS[kind](place).open_pair() as (sender, receiver):
        with anyio.fail_after(10):
            for message in (b"one", b"", b"x" * 9000):
                await sender.send(message)
            assert [await receiver.peek(), await receiver.peek()] == [b"one", b"one"]
            assert receiver.statistics().messages_received == 0
            assert await receiver.receive() == b"one"
            assert [await receiver.peek(), await receiver.receive()] == [b"", b""]
            assert [await receiver.peek(), await receiver.receive()] == [b"x" * 9000] * 2
            with pytest.raises(anyio.WouldBlock):
                receiver.receive_nowait()
        await receiver.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await receiver.peek()


@pytest.mark.parametrize("kind", KINDS)
async def test_waits(kind: str, place: Path) -> None:
    """Tasks wake in the order in which they came: two that look at the message, then the one that takes it."""
    async with CHANNELS[kind](place).open_pair() as (sender, receiver):
        got: list[bytes] = []

        async def keep(what: object) -> None:
            got.append(await what)  # type: ignore[misc]

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep, receiver.peek())
                tasks.start_soon(keep, receiver.peek())
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(keep, receiver.receive())
                await anyio.wait_all_tasks_blocked()
                await sender.send(b"one")
        assert got == [b"one"] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled(kind: str, place: Path) -> None:
    async with CHANNELS[kind](place).open_pair() as (sender, receiver):
        for attempt in range(times(60, 500)):
            message = b"%d" % attempt
            sent = False

            def suspended(number: int, parked: bool, message: bytes = message, ready_at: int = attempt // 5 % 5) -> None:
                nonlocal sent
                if (parked or number >= ready_at) and not sent:
                    sent = True
                    sender.send_nowait(message)

            outcome = await inject(receiver.peek(), attempt % 5, suspended=suspended)
            if not sent:
                sender.send_nowait(message)
            assert outcome in (CANCELLED, message)
            assert await receiver.receive() == message


async def test_descriptors_stay() -> None:
    ours, theirs = aipc.channel_pair("seqpacket")
    reading, writing = os.pipe()
    async with ours, theirs:
        for _ in range(3):
            await ours.send(b"with a descriptor", fds=[writing])
            assert await theirs.peek() == b"with a descriptor"
            message = await theirs.receive_message()
            assert len(message.fds) == 1
            os.close(message.fds[0])
    os.close(reading)
    os.close(writing)


async def test_the_end_is_no_message() -> None:
    ours, theirs = aipc.channel_pair("seqpacket")
    async with ours, theirs:
        await ours.send(b"")
        await ours.send_eof()
        assert [await theirs.peek(), await theirs.receive()] == [b"", b""]
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await theirs.peek()
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()


@pytest.mark.parametrize("kind", ["sysv-mq", "posix-mq"])
async def test_queues_can_not(kind: str, place: Path) -> None:
    async with CHANNELS[kind](place).open_pair() as (_, receiver):
        with pytest.raises(aipc.UnsupportedOperation, match="without taking it"):
            await receiver.peek()
