"""Several who send over one stream of bytes, or gave up in the middle of it: each message whole, and each sender told in time."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aipc.abc import Channel
from aipc.testing.expect import settle

from ..io.test_waiting import LOOPS, RUNNERS
from .streams import DUPLEX, STREAMS, drain_at_once, opened, stream

HUGE = 10_000_000


async def takes(kind: str, place: Path) -> int:
    """How many bytes fit, about."""
    async with stream(kind, place) as (sender, _):
        sender.send_nowait(bytes(HUGE))
        return sender.statistics().bytes_sent


def send(sender: Channel, operation: str, size: int):
    if operation == "send":
        return sender.send(bytes(size))
    return sender.send_many([bytes(size // 4)] * 4)


@pytest.mark.anyio
@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("another", ["send", "send_many"])
@pytest.mark.parametrize("operation", ["send", "send_many"])
@pytest.mark.parametrize("kind", STREAMS)
async def test_rest_that_another_sender_wrote(kind: str, operation: str, another: str, queued: bool, place: Path) -> None:
    """A sender waits with the end of its message; another task's `send` writes that end, and fills the kernel's buffer anew.

    The first one is through, and the kernel has no reason to say so. `queued`: one more waits to begin, and does so in vain.
    """
    size = await takes(kind, place) + 20_000
    async with stream(kind, place, receiving="none") as (sender, receiver), anyio.create_task_group() as tasks:
        with anyio.fail_after(10), anyio.CancelScope() as scope:

            async def first() -> None:
                await send(sender, operation, size)
                scope.cancel()

            tasks.start_soon(first)
            if queued:
                tasks.start_soon(sender.send, b"queued")
            await settle()
            assert not scope.cancel_called
            drain_at_once(receiver)
            await send(sender, another, HUGE)
        assert scope.cancelled_caught
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
@pytest.mark.parametrize("operation", ["receive", "receive_many", "receive_message"])
@pytest.mark.parametrize("kind", DUPLEX)
def test_rest_is_written_in_the_next_loop(kind: str, operation: str, first: str, second: str, place: Path) -> None:
    """A cancelled message that had begun is finished by whatever the channel does next, if the loop that was to do so is over."""
    ends: list[Channel] = []

    async def begin() -> None:
        ends.extend(await opened(kind, place))
        with anyio.move_on_after(0):
            await ends[0].send(bytes(HUGE))
        assert ends[0].statistics().messages_sent == 1

    async def go_on() -> None:
        sender, receiver = ends
        with anyio.fail_after(10):
            async with sender, receiver, anyio.create_task_group() as tasks:
                tasks.start_soon(getattr(sender, operation))
                assert await receiver.receive() == bytes(HUGE)
                tasks.cancel_scope.cancel()

    RUNNERS[first](begin)
    RUNNERS[second](go_on)
