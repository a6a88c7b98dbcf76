"""How streams of bytes end, well or badly, with tasks that wait and messages that are half sent."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from .streams import STREAMS, receive_at_once, stream

pytestmark = pytest.mark.anyio

HUGE = 10_000_000


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", STREAMS)
async def test_error_that_another_task_met(kind: str, cut: bool, place: Path) -> None:
    """A frame that is too long, or that is cut short: one task reads it all, and the kernel wakes nobody else."""
    expected = aipc.ProtocolError if cut else aipc.MessageTooLarge
    async with stream(kind, place, sending="none", limit=50_000) as (sender, receiver):

        async def expect_error() -> None:
            with pytest.raises(expected):
                await receiver.receive()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(expect_error)
                await settle()
                if cut:
                    sender.send_nowait((40_000).to_bytes(4, "big") + bytes(5_000))
                    await sender.send_eof()
                else:
                    sender.send_nowait((50_001).to_bytes(4, "big"))
                with pytest.raises(expected):
                    receive_at_once(receiver)


@pytest.mark.parametrize("kind", STREAMS)
async def test_ending_delivers_the_rest_of_a_cancelled_message(kind: str, place: Path) -> None:
    """The end comes behind it."""
    async with stream(kind, place) as (sender, receiver), anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            with anyio.move_on_after(0):
                await sender.send(bytes(HUGE))
            tasks.start_soon(sender.send_eof)
            await settle()
            assert [message async for message in receiver] == [bytes(HUGE)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", STREAMS)
async def test_closing_with_half_a_message_for_a_peer_that_is_gone(kind: str, late: bool, place: Path) -> None:
    """It raises nothing, and gives the descriptors back: the tests' own check sees to that. `late`: known already."""
    async with stream(kind, place) as (sender, receiver):
        with anyio.move_on_after(0):
            await sender.send(bytes(HUGE))
        assert sender.statistics().messages_sent == 1
        await receiver.aclose()
        if late:
            await settle()
        await sender.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await sender.send(b"")
