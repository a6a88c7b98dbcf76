"""Numbered messages, both ends in one process: an answer goes to its own request, and all else is as on any channel."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.processes.asking import MOST_UNASKED, AskingChannel
from aipc.processes.workers import channels as worker_channels
from aipc.processes.workers.channels import Kind
from aipc.testing import CANCELLED, CHANNEL_CHECKS, ChannelSubject, inject
from aipc.testing.expect import settle

from ...subjects import fill
from .ends import KINDS, numbered_ends

pytestmark = pytest.mark.anyio
LONG = 9 << 20  # several times what the ring and the sockets hold


def seqpacket_limit() -> int:
    ours, theirs = worker_channels.sockets(Kind("seqpacket", numbered=True))
    with ours, theirs:
        return min(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32, 4 << 20) - 8


def subject(kind: str, *, backwards: bool) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with numbered_ends(kind) as (asking, answering):
            yield (answering, asking) if backwards else (asking, answering)

    return ChannelSubject(open_pair, limit=seqpacket_limit() if kind == "seqpacket" else 16 << 20)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHANNEL_CHECKS, ids=lambda check: check.__name__)
async def test_channel(check: Callable[[ChannelSubject], Awaitable[None]], kind: str, backwards: bool) -> None:
    with anyio.fail_after(60):
        await check(subject(kind, backwards=backwards))


@pytest.mark.parametrize("kind", KINDS)
async def test_limits_are_those_without_the_number(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        limit = asking.extra(aipc.ChannelAttribute.max_message_size)
        assert limit == answering.extra(aipc.ChannelAttribute.max_message_size)
        assert limit == 16 << 20 or kind == "seqpacket"
        with anyio.fail_after(30):
            for ask in (asking.ask, asking.send, answering.send):
                with pytest.raises(aipc.MessageTooLarge, match=f"{limit + 1:,} bytes; max_message_size is {limit:,}"):
                    await ask(bytes(limit + 1))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(asking.ask, bytes(limit))
                assert len(await answering.receive()) == limit
                tasks.start_soon(answering.send, bytes(limit))
                assert len(await asking.answer()) == limit


@pytest.mark.parametrize("kind", KINDS)
async def test_what_answers_nothing_is_no_answer(kind: str) -> None:
    """Messages before the request, and second answers to it."""
    async with numbered_ends(kind) as (asking, answering):
        await answering.send(b"ready")
        await asking.ask(b"1")
        assert await answering.receive() == b"1"
        await answering.send_many([b"one", b"by the way"])
        await answering.send(b"also")
        with anyio.fail_after(30):
            assert await asking.answer() == b"one"
            assert await asking.receive() == b"ready"
            assert await asking.receive_many() == [b"by the way", b"also"]
            await asking.ask(b"2")
            await asking.send(b"beside it")
            assert await answering.receive_many() == [b"2", b"beside it"]
            await answering.send(b"two")
            assert await asking.answer() == b"two"
        with pytest.raises(anyio.WouldBlock):
            asking.receive_nowait()


@pytest.mark.parametrize("kind", KINDS)
async def test_each_task_gets_its_own_though_another_one_reads(kind: str) -> None:
    answers: list[bytes] = []
    unasked: list[bytes] = []

    async def ask() -> None:
        await asking.ask(b"request")
        answers.append(await asking.answer())

    async def receive() -> None:
        unasked.append(await asking.receive())

    for first, second in ((ask, receive), (receive, ask)):
        async with numbered_ends(kind) as (asking, answering):
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(first)
                    await settle()
                    tasks.start_soon(second)
                    await settle()
                    with pytest.raises(anyio.WouldBlock):
                        asking.receive_nowait()
                    assert await answering.receive() == b"request"
                    await answering.send(b"answer")
                    await settle()
                    await answering.send(b"note")
    assert answers == [b"answer", b"answer"]
    assert unasked == [b"note", b"note"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_requests_answer_is_dropped(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        await asking.ask(b"1")
        await asking.ask(b"2")
        for expected in (b"1", b"2"):
            assert await answering.receive() == expected
            await answering.send(b"answer to " + expected)
        with anyio.fail_after(30):
            assert await asking.answer() == b"answer to 2"
        with pytest.raises(anyio.WouldBlock):
            asking.receive_nowait()


@pytest.mark.parametrize("kind", ["stream", "shm"])
async def test_a_request_has_left_wholly_or_not_at_all(kind: str) -> None:
    """`ask` that is cancelled because there is no room has sent nothing; one that returned is finished in the background."""
    async with numbered_ends(kind) as (asking, answering):
        with anyio.fail_after(30):
            await asking.ask(b"1" * LONG)
            with anyio.move_on_after(0.05) as scope:
                await asking.ask(b"2" * LONG)
            assert scope.cancelled_caught
            assert await answering.receive() == b"1" * LONG
            await settle()
            with pytest.raises(anyio.WouldBlock):
                answering.receive_nowait()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_of_which_nothing_left_is_given_by_the_next_message(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        with anyio.fail_after(30):
            unasked = sum(fill(answering, bytes(size)) for size in (60_000, 1_000, 1))
            await asking.ask(b"request")
            assert await answering.receive() == b"request"
            assert await inject(answering.send(b"cancelled"), 0) is CANCELLED
            with pytest.raises(anyio.WouldBlock):
                answering.send_nowait(b"no room either")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answering.send, b"answer")
                assert await asking.answer() == b"answer"
            assert len(await asking.receive_many()) == unasked
            assert await self_answered(asking, answering, b"next") == b"next"


@pytest.mark.parametrize("kind", ["stream", "shm"])
async def test_an_answer_that_had_begun_is_the_answer(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        with anyio.fail_after(30):
            await asking.ask(b"request")
            assert await answering.receive() == b"request"
            assert await inject(answering.send(bytes(LONG)), 0) is CANCELLED
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answering.send, b"retried")
                assert await asking.answer() == bytes(LONG)
            assert await self_answered(asking, answering, b"next") == b"next"


async def self_answered(asking: AskingChannel, answering: Channel, data: bytes) -> bytes:
    await asking.ask(data)
    await answering.send(await answering.receive())
    return await asking.answer()


@pytest.mark.parametrize("kind", KINDS)
async def test_refused_answers_leave_the_request_open(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        with anyio.fail_after(30):
            for refuse in (
                lambda: answering.send(bytes(17 << 20)),
                lambda: answering.send_many([bytes(17 << 20)]),
                lambda: answering.send("text"),
            ):
                await asking.ask(b"request")
                await answering.receive()
                with pytest.raises((aipc.MessageTooLarge, TypeError)):
                    await refuse()
                with pytest.raises(TypeError):
                    answering.send_nowait(3)
                answering.send_nowait(b"sorry")
                assert await asking.answer() == b"sorry"
            await asking.ask(b"request")
            await answering.receive()
            with pytest.raises(aipc.MessageTooLarge):
                await answering.send_many([b"answer", bytes(17 << 20)])
            await answering.send(b"note")
            assert await asking.answer() == b"answer"
            assert await asking.receive() == b"note"


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
async def test_descriptors(kind: str) -> None:
    """They come with messages that answer nothing; those of answers, and those that nobody takes, are closed."""
    async with numbered_ends(kind) as (asking, answering):
        reading, writing = os.pipe()
        with anyio.fail_after(30):
            await asking.send(b"take it", fds=[reading])
            message = await answering.receive_message()
            assert message.data == b"take it"
            for name in (b"first", b"second", b"third"):
                await answering.send(name, fds=message.fds)
            await asking.ask(b"x")
            assert await answering.receive() == b"x"
            await answering.send(b"answer", fds=[writing])
            assert await asking.answer() == b"answer"
            came = await asking.receive_message()
            assert came.data == b"first"
            assert await asking.receive() == b"second"
        os.write(writing, b"through three processes' worth of sockets")
        os.close(writing)
        assert os.read(came.fds[0], 100).startswith(b"through")
        assert os.read(came.fds[0], 100) == b""  # nobody has the writing end any more
        for fd in (reading, *message.fds, *came.fds):
            os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_without_a_number_is_an_error_for_all_who_wait(kind: str) -> None:
    seen: list[str] = []

    async def expect(operation: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(aipc.ProtocolError, match="3 bytes, where a number of 8 comes first") as caught:
            await operation()
        seen.append(str(caught.value))

    async with numbered_ends(kind) as (asking, answering):
        await asking.ask(b"request")
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect, asking.answer)
                tasks.start_soon(expect, asking.receive)
                await settle()
                await answering._transport.send(b"bad")
            await expect(asking.receive)
    assert len(seen) == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_that_nobody_takes_have_a_limit(kind: str) -> None:
    async with numbered_ends(kind) as (asking, answering):
        await asking.ask(b"request")

        async def chatter() -> None:
            for _ in range(MOST_UNASKED + 1):
                await answering.send(b"")

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(chatter)
                with pytest.raises(aipc.ProtocolError, match="1,000 messages that answer no request"):
                    await asking.answer()


async def test_loans_and_views() -> None:
    async with numbered_ends("shm") as (asking, answering):
        assert isinstance(asking, aipc.RingChannel)
        assert isinstance(answering, aipc.RingChannel)
        with anyio.fail_after(30):
            await asking.ask(b"request")
            async with answering.receive_view() as view:
                assert view == b"request"
            with pytest.raises(LookupError):
                async with answering.loan(5):
                    raise LookupError
            async with answering.loan(6) as view:
                view[:] = b"answer"
            async with answering.loan(4) as view:
                view[:] = b"note"
            assert await asking.answer() == b"answer"
            async with asking.receive_view() as view:
                assert view == b"note"
            async with asking.loan(3) as view:
                view[:] = b"end"
            assert await answering.receive() == b"end"
            with pytest.raises(aipc.MessageTooLarge):
                async with answering.loan(1 << 24):
                    pass
            with pytest.raises(aipc.MessageTooLarge):
                async with answering.loan(-1):
                    pass


async def test_what_was_made_of_a_view_is_still_in_use() -> None:
    """As on any ring: an error that says so; a loan is not sent, a message that was seen is taken."""
    arrays = []

    async def keep(block: AbstractAsyncContextManager[memoryview]) -> None:
        async with block as view:
            arrays.append(pickle.PickleBuffer(view))  # holds on to it as numpy.frombuffer does

    async with numbered_ends("shm") as (asking, answering):
        with anyio.fail_after(30):
            await asking.ask(b"request")
            with pytest.raises(BufferError, match="the parent: something made of the view is still in use"):
                await keep(answering.receive_view())
            with pytest.raises(BufferError, match="the parent: something made of the view is still in use"):
                await keep(answering.loan(8))
            await answering.send(b"sorry")
            assert await asking.answer() == b"sorry"
            assert await self_answered(asking, answering, b"next") == b"next"
        for array in arrays:
            array.release()
