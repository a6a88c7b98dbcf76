"""Tasks that wait for a ring's doorbell, some for messages and some for room: whoever is served first, the others are, too."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aipc.testing.expect import settle

from ...subjects import fill
from .rings import connected, meet

pytestmark = pytest.mark.anyio

BEHIND = b"x" * 500  # as long as what fills the ring: there is no room for it


@pytest.mark.parametrize("cancelled", [False, True], ids=["served", "cancelled"])
async def test_receiver_that_parked_behind_a_sender(cancelled: bool, place: Path) -> None:
    """The sender gets room, or gives up; the message that comes then wakes the receiver."""
    got: list[bytes] = []
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        filled = fill(ours, bytes(500))

        async def receive() -> None:
            got.append(await ours.receive())

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                async with anyio.create_task_group() as sending:
                    sending.start_soon(ours.send, BEHIND)
                    await settle()
                    tasks.start_soon(receive)
                    await settle()
                    if cancelled:
                        sending.cancel_scope.cancel()
                    else:
                        assert [theirs.receive_nowait() for _ in range(filled)] == [bytes(500)] * filled
                await settle()
                theirs.send_nowait(b"for the receiver")
    assert got == [b"for the receiver"]


@pytest.mark.parametrize("cancelled", [False, True], ids=["served", "cancelled"])
async def test_sender_that_parked_behind_a_receiver(cancelled: bool, place: Path) -> None:
    """The receiver gets its message, or gives up; the room that comes then wakes the sender."""
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        filled = fill(ours, bytes(500))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                async with anyio.create_task_group() as receiving:
                    receiving.start_soon(ours.receive)
                    await settle()
                    tasks.start_soon(ours.send, BEHIND)
                    await settle()
                    if cancelled:
                        receiving.cancel_scope.cancel()
                    else:
                        theirs.send_nowait(b"for the receiver")
                await settle()
                assert [theirs.receive_nowait() for _ in range(filled)] == [bytes(500)] * filled
            assert await theirs.receive() == BEHIND
