"""Messages in place: loans to write into, views to read."""

from __future__ import annotations

import os
import pickle
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import RingChannel
from aipc.testing.expect import settle
from aipc.transports.shm.channel import pair

from .rings import connected, meet

pytestmark = pytest.mark.anyio


def parked(channel: RingChannel) -> bool:
    """Whether a task waits for the doorbell, and does not look again in each turn of the loop."""
    return channel._handle.readable.waiting > 0


async def test_loan_is_sent_exactly() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        for number in range(100):
            message = os.urandom(number * 20)
            async with ours.loan(len(message)) as view:
                assert len(view) == len(message)
                view[:] = message
                with pytest.raises(anyio.WouldBlock):
                    theirs.receive_nowait()
            assert theirs.receive_nowait() == message


async def test_loan_given_up_sends_nothing() -> None:
    ours, theirs = pair(4096)

    async def give_up() -> None:
        async with ours.loan(1000) as view:
            view[:] = b"x" * 1000
            raise ZeroDivisionError

    async with ours, theirs:
        for _ in range(20):  # more than the ring has room for
            with pytest.raises(ZeroDivisionError):
                await give_up()
        await ours.send(b"after")
        assert await theirs.receive() == b"after"
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()


async def test_loan_too_large() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        for size in (2041, -1, 1 << 40):
            with pytest.raises(aipc.MessageTooLarge, match="2,040"):
                async with ours.loan(size):
                    pass
        async with ours.loan(2040) as view:
            view[:] = b"x" * 2040
        assert await theirs.receive() == b"x" * 2040


async def test_others_wait_for_a_loan() -> None:
    """Sends and loans of other tasks wait for the block's end, without keeping the loop busy, and keep their order."""
    ours, theirs = pair(4096)

    async def lend(message: bytes) -> None:
        async with ours.loan(len(message)) as view:
            view[:] = message

    async with ours, theirs, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            await ours.send(b"first")
            async with ours.loan(4) as view:
                tasks.start_soon(ours.send, b"third")
                tasks.start_soon(lend, b"fourth")
                assert await theirs.receive() == b"first"  # there is room, which must not make them try for ever
                await settle()
                before = ours._producer.position
                await settle()
                assert parked(ours)
                assert ours._producer.position == before
                with pytest.raises(anyio.WouldBlock):
                    ours.send_nowait(b"x")
                view[:] = b"next"
            got = [await theirs.receive() for _ in range(3)]
    assert got[0] == b"next"
    assert set(got[1:]) == {b"third", b"fourth"}


async def test_view_of_a_message(place: Path) -> None:
    """It is the message, in place; other receivers wait for the next one, and do not keep the loop busy."""
    async with connected(place) as (ours, theirs), anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await theirs.receive())

        async def stumble() -> None:
            async with theirs.receive_view():
                raise ZeroDivisionError

        with anyio.fail_after(10):
            await ours.send_many([b"one", b"two", b""])
            async with theirs.receive_view() as view:
                assert bytes(view) == b"one"
                tasks.start_soon(receive)
                await settle()
                assert parked(theirs)
                assert got == []
                with pytest.raises(anyio.WouldBlock):
                    theirs.receive_nowait()
            while not got:
                await settle()
            assert got == [b"two"]
            async with theirs.receive_view() as view:
                assert len(view) == 0
            with pytest.raises(ValueError, match="released"):
                view[0]
            tasks.start_soon(ours.send, b"in parts" * 1000)
            async with theirs.receive_view() as view:
                assert bytes(view) == b"in parts" * 1000
            await ours.send(b"seen is taken")
            with pytest.raises(ZeroDivisionError):
                await stumble()
            await ours.send(b"last")
            assert await theirs.receive() == b"last"
    assert theirs.statistics().messages_received == 6


async def test_what_was_made_of_a_view_is_still_in_use() -> None:
    """An error that says so; a loan is not sent, a message that was seen is taken, and both go on."""
    ours, theirs = pair(4096)
    arrays = []

    async def keep(block: AbstractAsyncContextManager[memoryview]) -> None:
        async with block as view:
            arrays.append(pickle.PickleBuffer(view))  # holds on to it as numpy.frombuffer does

    async with ours, theirs:
        with pytest.raises(BufferError, match="still in use"):
            await keep(ours.loan(8))
        await ours.send(b"sent")
        with pytest.raises(BufferError, match="still in use"):
            await keep(theirs.receive_view())
        assert arrays[1].raw() == b"sent"
        arrays.clear()
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()
        await meet(ours, theirs)


async def test_closed_inside_a_block() -> None:
    """The view can be used to the end of the block; a loan is not sent."""
    ours, theirs = pair(4096)
    async with ours, theirs:
        await ours.send(b"seen")
        async with theirs.receive_view() as view:
            await theirs.aclose()
            assert bytes(view) == b"seen"
        with pytest.raises(anyio.BrokenResourceError):
            async with ours.loan(4):
                pass
    ours, theirs = pair(4096)

    async def close_and_write() -> None:
        async with ours.loan(4) as view:
            await ours.aclose()
            view[:] = b"lost"

    async with ours, theirs:
        with pytest.raises(anyio.ClosedResourceError):
            await close_and_write()
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
