"""Cancellations injected at every await: no job is lost, none stays leased, and no connection is spoilt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest

import aipc
from aipc import JobsStatus
from aipc._io.loop import backend
from aipc.redis.channel import RemoteJobChannel
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import until

from .. import subjects
from ..subjects.counts import times
from .peers.servers import shared_server

pytestmark = pytest.mark.anyio

ROUNDS = subjects.CANCELLATIONS
MOMENTS = (Moment.AWAIT, Moment.READINESS)
EMPTY = JobsStatus(0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _answers_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second one, in a long run all: where a task reads its answer itself, there is no moment at which to cancel it."""
    monkeypatch.setattr("aipc.redis.links.soon._IN_A_ROW", times(1, 0))


class Once:
    """Something that another task does, as soon as the operation under test waits."""

    def __init__(self, function: Callable[[], Awaitable[object]]) -> None:
        self.ended = anyio.Event()
        self._function = function
        self._started = False

    def start(self, number: int = 0, parked: bool = False) -> None:
        if not self._started:
            self._started = True
            backend.start_soon(self._run)

    async def _run(self) -> None:
        await self._function()
        self.ended.set()


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """No connection to the server is left."""
    shared_server().command("FLUSHALL")
    with anyio.fail_after(times(300, 1_200)):
        yield
        await until(lambda: shared_server().command("CLIENT", "LIST").count(b"id=") == 1)  # that of this command


async def until_cancelled(attempt: Callable[[int], Awaitable[bool]]) -> None:
    """Attempt it, by number, until it was cancelled so many times."""
    cancelled = number = 0
    while cancelled < ROUNDS:
        cancelled += await attempt(number)
        number += 1
    print(f"{cancelled} cancelled of {number}")


async def leased(queue: RemoteJobChannel) -> bytes:
    async with queue.lease() as job:
        return job.data


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("operation", ["receive", "receive_many", "lease"])
async def test_taking(operation: str, early: bool) -> None:
    """A job that is there before, or comes while a cancelled receive waits, is received once, now or later."""
    async with nothing_left(), aipc.open_channel(shared_server().url()) as channel:
        queue = cast(RemoteJobChannel, channel)
        await until_cancelled(lambda number: _take(queue, operation, number, early=early))
        assert len(queue._link.wakes._places) == 0


async def _take(queue: RemoteJobChannel, operation: str, number: int, *, early: bool) -> bool:
    message = b"%d" % number
    sending = Once(lambda: queue.send(message))
    if early:
        sending.start()
        await sending.ended.wait()
    taking = {"receive": queue.receive, "receive_many": queue.receive_many}.get(operation, lambda: leased(queue))
    outcome = await inject(taking(), number // 2 % 4, MOMENTS[number % 2], sending.start)
    sending.start()
    await sending.ended.wait()
    await queue._link.flushed()
    cancelled = outcome is CANCELLED
    if cancelled:
        if queue.stat() == EMPTY:
            assert operation == "lease"  # cancelled while the end of a block that ended well was told
            return True
        outcome = await queue.receive()
        await queue._link.flushed()
    assert outcome in (message, [message])
    assert queue.stat() == EMPTY
    return cancelled


@pytest.mark.parametrize("operation", ["send", "send_many"])
async def test_sending_to_a_full_queue(operation: str) -> None:
    """A cancelled send has sent its job if it counts it, and else not."""
    async with nothing_left(), aipc.open_channel(shared_server().url(), max_messages=2) as channel:
        queue = cast(RemoteJobChannel, channel)
        await until_cancelled(lambda number: _send(queue, operation, number))


async def _send(queue: RemoteJobChannel, operation: str, number: int) -> bool:
    await queue.send_many([b"1", b"2"])
    got: list[bytes] = []

    async def receive() -> None:
        got.extend([await queue.receive(), await queue.receive()])

    receiving = Once(receive)
    before = queue.statistics().messages_sent
    sending = queue.send(b"new") if operation == "send" else queue.send_many([b"new"])
    outcome = await inject(sending, number // 2 % 4, MOMENTS[number % 2], receiving.start)
    receiving.start()
    await receiving.ended.wait()
    await queue._link.flushed()
    sent = queue.statistics().messages_sent - before
    assert sent == 1 or outcome is CANCELLED
    while len(got) < 2 + sent:
        got.append(await queue.receive())
    await queue._link.flushed()
    assert got == [b"1", b"2"] + [b"new"] * sent
    assert queue.stat() == EMPTY
    return outcome is CANCELLED


async def test_opening() -> None:
    """A cancelled opening leaves nothing open."""

    async def attempt(number: int) -> bool:
        opening = aipc.open_channel(shared_server().url())

        async def opened() -> aipc.Channel:
            return await opening

        outcome = await inject(opened(), number // 2 % 3, MOMENTS[number % 2])
        if outcome is not CANCELLED:
            await outcome.aclose()
        return outcome is CANCELLED

    async with nothing_left():
        await until_cancelled(attempt)


async def test_publishing() -> None:
    """A cancelled publish has published once or not at all, and what comes after it comes."""
    url = shared_server().url("topic")
    async with (
        nothing_left(),
        aipc.open_publisher(url, history=100) as publisher,
        aipc.open_subscriber(url, history=100) as got,
    ):

        async def attempt(number: int) -> bool:
            outcome = await inject(publisher.publish("it", b"%d" % number), number // 2 % 3, MOMENTS[number % 2])
            await publisher.publish("it", b"end")
            come = [(await got.receive()).data]
            while come[-1] != b"end":
                come.append((await got.receive()).data)
            assert come == [b"%d" % number, b"end"] or (outcome is CANCELLED and come == [b"end"])
            return outcome is CANCELLED

        await until_cancelled(attempt)


async def test_a_subscriber() -> None:
    """A message that comes while a cancelled receive waits is received once, now or later."""
    url = shared_server().url("topic")
    async with (
        nothing_left(),
        aipc.open_publisher(url, history=100) as publisher,
        aipc.open_subscriber(url, history=100) as got,
    ):

        async def attempt(number: int) -> bool:
            publishing = Once(lambda: publisher.publish("it", b"%d" % number))
            outcome = await inject(got.receive(), number // 2 % 3, MOMENTS[number % 2], publishing.start)
            publishing.start()
            message = await got.receive() if outcome is CANCELLED else outcome
            await publishing.ended.wait()
            assert (message.data, message.missed) == (b"%d" % number, 0)
            return outcome is CANCELLED

        await until_cancelled(attempt)
