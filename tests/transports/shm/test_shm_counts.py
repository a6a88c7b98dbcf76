"""`statistics()` of a ring: a message that the peer will get is counted from its first part on, and no other one ever."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import RingChannel
from aipc.testing import CANCELLED, Moment, inject

from ...subjects import times
from .rings import connected, meet

pytestmark = pytest.mark.anyio

MOMENTS = (Moment.AWAIT, Moment.READINESS)
ROUNDS = times(10, 40)
DEEPEST = 8  # awaits: spins, then parks between the parts
CAPACITY = 16 * 1024
SHORT, LONG = b"s" * 5000, b"l" * 100_000  # three of the one fill the ring; the other goes in a dozen parts and more


async def until_end(sender: RingChannel, receiver: RingChannel) -> list[bytes]:
    """What the peer gets, up to a last message that is sent now."""
    received = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send, b"end")
        while (message := await receiver.receive()) != b"end":
            received.append(message)
    return received


async def cancelled_at(
    at: int, moment: Moment, sender: RingChannel, receiver: RingChannel, items: Sequence[bytes], full: bool, many: bool
) -> bool:
    """Send and cancel at await number `at`; the count at once, before anybody reads on, is what the peer gets in the end."""
    ahead = 0
    while full:
        try:
            sender.send_nowait(SHORT)
            ahead += 1
        except anyio.WouldBlock:
            break
    received: list[bytes] = []

    def suspended(number: int, parked: bool) -> None:
        if parked or number % 2:
            with suppress(anyio.WouldBlock):  # it may be parts of a message, if anything
                received.append(receiver.receive_nowait())

    before = sender.statistics().messages_sent
    outcome = await inject(sender.send_many(items) if many else sender.send(items[0]), at, moment, suspended)
    counted = sender.statistics().messages_sent - before
    received += await until_end(sender, receiver)
    assert received == [SHORT] * ahead + list(items[:counted])
    if outcome is not CANCELLED:
        assert counted == len(items)
    return outcome is CANCELLED


@pytest.mark.parametrize("many", [False, True], ids=["send", "send_many"])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
async def test_cancelled_at_any_await(full: bool, many: bool, place: Path) -> None:
    items = [b"0", LONG, b"2", LONG, SHORT] if many else [LONG]
    with anyio.fail_after(60):
        async with connected(place, CAPACITY) as (ours, theirs):
            await meet(ours, theirs)
            cancelled = 0
            for attempt in range(ROUNDS * DEEPEST):
                moment = MOMENTS[attempt // DEEPEST % 2]
                cancelled += await cancelled_at(attempt % DEEPEST, moment, ours, theirs, items, full, many)
            assert cancelled > ROUNDS
            assert ours.statistics().messages_sent == theirs.statistics().messages_received


async def test_abandoned_by_send_nowait() -> None:
    """A long message of which a part has found room is counted, as it will be finished; one that found none is not."""
    ours, theirs = aipc.channel_pair("shm")
    async with ours, theirs:
        long = bytes(10_000_000)
        ours.send_nowait(long)
        assert ours.statistics().messages_sent == 1
        with pytest.raises(anyio.WouldBlock):
            ours.send_nowait(long)
        assert ours.statistics().messages_sent == 1
        with anyio.fail_after(10):
            assert await theirs.receive() == long


async def test_errors_count_nothing(place: Path) -> None:
    """Refused messages, and those that found nobody; a batch counts what went before the refused one."""
    async with connected(place, 4096, 3000) as (ours, theirs):
        await meet(ours, theirs)
        before = ours.statistics().messages_sent
        for refused in (b"x" * 3001, bytearray(3001)):
            with pytest.raises(aipc.MessageTooLarge):
                await ours.send(refused)
        with pytest.raises(aipc.MessageTooLarge):
            await ours.send_many([b"one", b"two", b"x" * 3001, b"four"])
        with pytest.raises(ZeroDivisionError):
            async with ours.loan(10):
                raise ZeroDivisionError
        assert ours.statistics().messages_sent - before == 2
        assert await theirs.receive_many() == [b"one", b"two"]
        await theirs.aclose()
        for items in ([b"x"], [b"x"] * 100):
            with pytest.raises(anyio.BrokenResourceError):
                await ours.send_many(items)
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"x")
        assert ours.statistics().messages_sent - before == 2


async def test_blocks_count_once() -> None:
    """A loan when it is sent, a view when it is entered, also that of a message in parts."""
    ours, theirs = aipc.channel_pair("shm")
    async with ours, theirs:
        assert isinstance(ours, RingChannel)
        assert isinstance(theirs, RingChannel)
        async with ours.loan(3) as view:
            assert ours.statistics().messages_sent == 0
            view[:] = b"abc"
        assert ours.statistics().messages_sent == 1
        async with theirs.receive_view():
            assert theirs.statistics().messages_received == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, bytes(10_000_000))
            async with theirs.receive_view() as view:
                assert len(view) == 10_000_000
        assert theirs.statistics().messages_received == ours.statistics().messages_sent == 2
