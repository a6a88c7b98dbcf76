"""Cancellations injected at every await of a queue's operations: no job is lost, doubled, or left leased."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

import anyio
import pytest

import aipc
from aipc import JobChannel, JobsStatus
from aipc.testing import CANCELLED, Moment, inject

from ...subjects.counts import CANCELLATIONS, times

pytestmark = pytest.mark.anyio

Result = TypeVar("Result")

MOMENTS = (Moment.AWAIT, Moment.READINESS)
EMPTY = JobsStatus(0, 0, 0, 0)


@asynccontextmanager
async def queue_in(place: Path, **options: int) -> AsyncIterator[JobChannel]:
    with anyio.fail_after(times(60, 1_200)):
        async with aipc.open_channel(f"jobs:{place}/app.jobs", create=True, **options) as queue:
            yield cast(JobChannel, queue)


def now(call: Callable[[], Result]) -> Result:
    """A plain call, again if it gave up because the disk is slow."""
    while True:
        with suppress(anyio.WouldBlock):
            return call()


async def leased(queue: JobChannel) -> bytes:
    async with queue.lease() as job:
        return job.data


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("operation", ["receive", "receive_many", "lease"])
async def test_taking(operation: str, early: bool, durable: bool, place: Path) -> None:
    """A job that is there before, or comes while a cancelled receive waits, is received once, now or later."""
    async with queue_in(place, durable=durable) as queue:  # which always goes through the thread
        for round_number in range(CANCELLATIONS // 5 if durable else CANCELLATIONS):
            message = b"%d" % round_number
            sent = early

            def suspended(number: int, parked: bool, message: bytes = message) -> None:
                nonlocal sent
                if not sent:
                    sent = True
                    now(lambda: queue.send_nowait(message))

            if early:
                await queue.send(message)
            taking = {"receive": queue.receive, "receive_many": queue.receive_many}.get(operation, lambda: leased(queue))
            outcome = await inject(taking(), round_number // 2 % 3, MOMENTS[round_number % 2], suspended)
            if outcome is CANCELLED:
                if operation == "lease" and queue.stat() == EMPTY:
                    continue  # cancelled while the end of a block that ended well was written
                outcome = await queue.receive()
            assert outcome in (message, [message])
            assert queue.stat() == EMPTY


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("operation", ["send", "send_many"])
async def test_sending_to_a_full_queue(operation: str, durable: bool, place: Path) -> None:
    """A cancelled send has sent its job if it counts it, and else not."""
    async with queue_in(place, max_messages=2, durable=durable) as queue:
        for round_number in range(CANCELLATIONS // 5 if durable else CANCELLATIONS):
            await queue.send_many([b"1", b"2"])
            expected = [b"1", b"2"]
            got: list[bytes] = []

            def suspended(number: int, parked: bool, got: list[bytes] = got) -> None:
                if not got:
                    got += [now(queue.receive_nowait), now(queue.receive_nowait)]

            before = queue.statistics().messages_sent
            sending = queue.send(b"new") if operation == "send" else queue.send_many([b"new"])
            outcome = await inject(sending, round_number // 2 % 2, MOMENTS[round_number % 2], suspended)
            sent = queue.statistics().messages_sent - before
            assert sent == 1 or outcome is CANCELLED
            expected += [b"new"] * sent
            while len(got) < len(expected):
                got.append(await queue.receive())
            assert got == expected
            assert queue.stat() == EMPTY


async def test_opening(place: Path) -> None:
    """A cancelled opening leaves nothing open, and no thread."""
    for round_number in range(min(CANCELLATIONS, 60)):
        opening = aipc.open_channel(f"jobs:{place}/app.jobs", create=True)

        async def opened(opening: aipc.Opening[aipc.Channel] = opening) -> aipc.Channel:
            return await opening

        outcome = await inject(opened(), round_number % 2, MOMENTS[round_number // 2 % 2])
        if outcome is not CANCELLED:
            await outcome.aclose()
