"""`peek` over shared memory: a message in one piece is copied from the ring, one in parts is put together once."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aipc.testing.expect import settle

from .rings import connected

pytestmark = pytest.mark.anyio

LONG = bytes(range(256)) * 64
"""Four times the ring."""


@pytest.mark.parametrize("message", [b"", b"one", LONG], ids=["empty", "short", "long"])
async def test_the_next_message_stays(message: bytes, place: Path) -> None:
    async with connected(place, 4096, len(LONG)) as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(ours.send_many, [message, b"next", message])
        with anyio.fail_after(10):
            assert [await theirs.peek(), await theirs.peek()] == [message, message]
            assert theirs.statistics().messages_received == 0
            assert await theirs.receive() == message
            assert [await theirs.peek(), theirs.receive_nowait()] == [b"next", b"next"]
            assert await theirs.peek() == message
            assert await theirs.receive_many() == [message]
            with pytest.raises(anyio.WouldBlock):
                theirs.receive_nowait()


async def test_a_view_shows_what_was_peeked(place: Path) -> None:
    async with connected(place, 4096, len(LONG)) as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(ours.send_many, [LONG, b"next"])
        with anyio.fail_after(10):
            assert await theirs.peek() == LONG
            async with theirs.receive_view() as view:
                assert view == LONG
            assert await theirs.peek() == b"next"
            async with theirs.receive_view() as view:
                assert view == b"next"


async def test_peek_wakes_a_receiver_and_takes_nothing_from_it(place: Path) -> None:
    async with connected(place) as (ours, theirs):
        peeked: list[bytes] = []

        async def peek() -> None:
            peeked.append(await theirs.peek())

        async def receive() -> None:
            peeked.append(await theirs.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peek)
            tasks.start_soon(receive)
            await settle()
            await ours.send_many([b"one", b"two"])
        assert peeked in ([b"one", b"one"], [b"one", b"two"])


async def test_the_end_and_the_close_are_met(place: Path) -> None:
    async with connected(place, 4096, len(LONG)) as (ours, theirs):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, LONG)
            assert await theirs.peek() == LONG
        await ours.aclose()
        assert await theirs.receive() == LONG
        with pytest.raises(anyio.EndOfStream):
            await theirs.peek()
        await theirs.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await theirs.peek()


async def test_closed_with_a_peeked_message(place: Path) -> None:
    async with connected(place, 4096, len(LONG)) as (ours, theirs):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ours.send, LONG)
            assert await theirs.peek() == LONG
        await theirs.aclose()
        for operation in (theirs.peek, theirs.receive):
            with pytest.raises(anyio.ClosedResourceError):
                await operation()
