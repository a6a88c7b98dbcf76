"""What is peculiar to the ring: sizes, ends, the window, and who may use it."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc.testing.expect import settle
from aipc.transports.shm.channel import pair

from ...subjects import fill
from .rings import connected, meet

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("capacity", [1 << 12, 1 << 16, 1 << 20, 1 << 23])
async def test_sizes(capacity: int, place: Path) -> None:
    """Messages that just fit, just don't, and are several times as long as the ring, in both directions."""
    half = capacity // 2
    sizes = [0, 1, 7, 8, 9, 100, half - 9, half - 8, half - 7, half, capacity - 17, capacity - 8, capacity, 4 * capacity, 3]
    payload = os.urandom(251) * (4 * capacity // 251 + 1)
    async with connected(place, capacity, 4 * capacity) as (ours, theirs):
        for one, other in ((ours, theirs), (theirs, ours)):
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.send_many, [payload[:size] for size in sizes])
                    for size in sizes:
                        assert await other.receive() == payload[:size]
            sent, received = one.statistics(), other.statistics()
            assert sent.messages_sent == received.messages_received == len(sizes)
            assert sent.bytes_sent == received.bytes_received > sum(sizes)


async def test_receive_many_takes_long_messages_in_portions() -> None:
    """A quarter of a MiB, and the message that goes beyond: malloc would give more of them back to the kernel each time."""
    ours, theirs = pair()
    async with ours, theirs:
        await ours.send_many([bytes(60_000)] * 20)
        portions = []
        while sum(portions) < 20:
            portions.append(len(await theirs.receive_many()))
    assert portions == [5, 5, 5, 5]


async def test_a_batch_keeps_to_the_limit(place: Path) -> None:
    """One that is too long, but would fit into the ring, is refused as it is alone; those before it are sent."""
    async with connected(place, 4096, limit=100) as (ours, theirs):
        await meet(ours, theirs)
        for before in ([], [bytes(100)], [b"", b"short"]):
            with pytest.raises(aipc.MessageTooLarge):
                await ours.send_many([*before, bytes(101), b"after it"])
            await ours.send(b"next")
            assert [await theirs.receive() for _ in range(len(before) + 1)] == [*before, b"next"]


async def test_two_long_messages_and_short_ones_at_once(place: Path) -> None:
    """Each arrives whole; none overtakes the part of another."""
    messages = [bytes([number]) * size for number, size in enumerate([50_000, 3, 70_000, 500, 40_000, 0])]
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for message in messages:
                    tasks.start_soon(ours.send, message)
                await settle()
                got = [await theirs.receive() for _ in messages]
    assert sorted(got) == sorted(messages)


async def test_send_to_closed_peer_fails_at_once(place: Path) -> None:
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        await theirs.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"to nobody")
        with pytest.raises(anyio.BrokenResourceError):
            async with ours.loan(1):
                pass


async def test_long_send_ends_when_the_peer_closes(place: Path) -> None:
    """It waits for room when nobody will make any."""
    failed: list[bytes] = []

    async def fail(message: bytes) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(message)
        failed.append(message)

    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for message in (bytes(100_000), bytes(1000)):
                    tasks.start_soon(fail, message)
                    await settle()
                assert failed == []
                await theirs.aclose()
    assert len(failed) == 2


async def test_a_busy_ring_does_not_keep_the_loop() -> None:
    """4,000 messages received, or sent, in a row: other tasks run in between."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    ours, theirs = pair(1 << 20)
    async with ours, theirs:
        await meet(ours, theirs)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            await anyio.lowlevel.checkpoint()
            turns = 0
            for _ in range(4_000):
                await ours.send(b"x")
            assert 20 <= turns <= 100
            turns = 0
            for _ in range(4_000):
                assert await theirs.receive() == b"x"
            assert 20 <= turns <= 100
            tasks.cancel_scope.cancel()


async def test_closed_in_the_middle_of_a_message(place: Path) -> None:
    async with connected(place) as (ours, theirs):
        await ours.send(b"whole")
        ours.send_nowait(bytes(100_000))
        await ours.aclose()
        assert await theirs.receive() == b"whole"
        with pytest.raises(aipc.ProtocolError, match="middle"):
            await theirs.receive()


async def test_use_after_send_eof() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        await meet(ours, theirs)
        await ours.send(b"last")
        await ours.send_eof()
        for operation in (lambda: ours.send(b"x"), lambda: ours.send_many([b"x"]), lambda: ours.loan(1).__aenter__()):
            with pytest.raises(anyio.ClosedResourceError):
                await operation()
        assert await theirs.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        await theirs.send(b"the other way")
        assert await ours.receive() == b"the other way"


async def test_client_that_left_before_it_was_accepted(place: Path) -> None:
    """What it sent is received, then the end."""
    url = f"shm:{place}/ring"
    async with aipc.listen(url) as listener:
        async with aipc.open_channel(url) as ours:
            await ours.send_many([b"one", b"two" * 1000])
        async with await listener.accept() as theirs:
            assert theirs.receive_nowait() == b"one"
            assert await theirs.receive() == b"two" * 1000
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()


async def test_window_of_the_listener(place: Path) -> None:
    """Its `capacity` bounds what waits unread in its direction, whatever the client's memory is."""
    url = f"shm:{place}/ring"
    async with (
        aipc.listen(url, capacity=4096) as listener,
        aipc.open_channel(url, capacity=1 << 20) as ours,
        await listener.accept() as theirs,
    ):
        fill(theirs, bytes(100))
        assert 3_000 < theirs.statistics().bytes_sent <= 4096
        for _ in range(100):
            ours.send_nowait(bytes(100))
        with anyio.fail_after(10):
            for _ in range(theirs.statistics().messages_sent):
                await ours.receive()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(theirs.send, bytes(100_000))
                assert await ours.receive() == bytes(100_000)


@pytest.mark.parametrize("capacity", [2048, 4095, 5000, 1 << 31])
async def test_capacity_is_a_power_of_two(capacity: int, place: Path) -> None:
    for opener in (aipc.open_channel, aipc.listen):
        with pytest.raises(aipc.AddressError, match="power of two"):
            await opener(f"shm:{place}/ring", capacity=capacity)


async def test_peer_credentials(place: Path) -> None:
    async with connected(place) as (ours, _):
        assert ours.extra(aipc.ChannelAttribute.peer_credentials).pid == os.getpid()
        assert ours.extra(aipc.ChannelAttribute.max_message_size) == 1 << 20


def test_forked_child_is_refused() -> None:
    """In every way in; the parent's ring stays as it was."""
    ours, theirs = pair(4096)

    async def refused() -> None:
        for operation in (
            lambda: ours.send(b"x"),
            lambda: ours.send_many([b"x"]),
            ours.receive,
            ours.receive_many,
            lambda: ours.loan(1).__aenter__(),
            lambda: ours.receive_view().__aenter__(),
        ):
            with pytest.raises(aipc.ForkedError):
                await operation()
        with pytest.raises(aipc.ForkedError):
            ours.send_nowait(b"x")

    async def fork() -> None:
        async with ours.loan(4):
            if os.fork():
                os.wait()
                raise aipc.ForkedError

    async def fork_within_a_loan() -> None:
        await meet(ours, theirs)
        async with ours.loan(4) as view:
            view[:] = b"once"
        with pytest.raises(aipc.ForkedError):
            await fork()
        if os.getpid() != parent:
            await refused()
            os._exit(0)
        assert await theirs.receive() == b"once"
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()

    parent = os.getpid()
    try:
        anyio.run(fork_within_a_loan)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    ours.close()
    theirs.close()
