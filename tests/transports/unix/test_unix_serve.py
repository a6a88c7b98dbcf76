"""Serving, accepting and iterating over a Unix listener."""

from __future__ import annotations

import errno
import functools
import logging
import os
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(place: Path) -> str:
    return f"unix:{place}/socket"


async def test_a_task_for_each_connection(url: str) -> None:
    """All handlers run at once: each waits for the others."""
    inside = 0
    all_inside = anyio.Event()

    async def handler(channel: Channel) -> None:
        nonlocal inside
        inside += 1
        if inside == 3:
            all_inside.set()
        await all_inside.wait()
        await channel.send(await channel.receive())

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            async with aipc.open_channel(url) as one, aipc.open_channel(url) as two, aipc.open_channel(url) as three:
                for name, channel in enumerate((one, two, three)):
                    await channel.send(b"%d" % name)
                assert [await channel.receive() for channel in (one, two, three)] == [b"0", b"1", b"2"]
            tasks.cancel_scope.cancel()


async def test_channel_is_closed_when_its_handler_ends(url: str) -> None:
    served: list[Channel] = []

    async def handler(channel: Channel) -> None:
        served.append(channel)

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            async with aipc.open_channel(url) as channel:
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
            with pytest.raises(anyio.ClosedResourceError):
                served[0].receive_nowait()
            tasks.cancel_scope.cancel()


async def failing_handler(channel: Channel) -> None:
    message = await channel.receive()
    if message == b"fail":
        raise ZeroDivisionError("the handler's own")
    await channel.send(message)


async def test_handlers_error_ends_its_own_connection(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, failing_handler)
            async with aipc.open_channel(url) as good, aipc.open_channel(url) as bad:
                await bad.send(b"fail")
                with pytest.raises(anyio.EndOfStream):
                    await bad.receive()
                await good.send(b"echo")
                assert await good.receive() == b"echo"
            tasks.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.name == "aipc"]
    assert record.levelno == logging.ERROR
    assert url in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_handler_that_fails_before_it_awaits(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function that gives an awaitable is a handler, too, and so is one of a wrong signature."""
    wrong = functools.partial(failing_handler, "one argument too many")
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, wrong)
            for _ in range(2):
                async with aipc.open_channel(url) as channel:
                    with pytest.raises(anyio.EndOfStream):
                        await channel.receive()
            tasks.cancel_scope.cancel()
    errors = [record.exc_info[1] for record in caplog.records if record.name == "aipc" and record.exc_info]
    assert [type(error) for error in errors] == [TypeError, TypeError]


async def test_cancelled_serve_ends_its_handlers(url: str) -> None:
    """They clean up before `serve` is over; then their channels are closed."""
    events: list[str] = []
    served: list[Channel] = []

    async def handler(channel: Channel) -> None:
        served.append(channel)
        await channel.send(b"inside")
        try:
            await channel.receive()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await settle()
            channel.send_nowait(b"bye")
            events.append("cleaned up")
            raise

    async def serve() -> None:
        try:
            await listener.serve(handler)
        finally:
            events.append("serve is over")

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url) as one, aipc.open_channel(url) as two:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                assert [await one.receive(), await two.receive()] == [b"inside", b"inside"]
                tasks.cancel_scope.cancel()
            assert events == ["cleaned up", "cleaned up", "serve is over"]
            for channel in (one, two):
                assert [message async for message in channel] == [b"bye"]
            for channel in served:
                with pytest.raises(anyio.ClosedResourceError):
                    channel.receive_nowait()
            async with aipc.open_channel(url), await listener.accept():
                pass  # the listener itself is still good


async def test_closing_the_listener_ends_serve(url: str) -> None:
    ended: list[str] = []

    async def handler(channel: Channel) -> None:
        try:
            await channel.send(b"inside")
            await channel.receive()
        finally:
            ended.append("handler")

    async def serve() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await listener.serve(handler)
        ended.append("serve")

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            async with aipc.open_channel(url) as channel:
                assert await channel.receive() == b"inside"
                await listener.aclose()
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
    assert ended == ["handler", "serve"]


async def test_iteration(url: str) -> None:
    """Iterating gives each connection, and ends when the listener is closed."""
    greeted: list[bytes] = []

    async def greet() -> None:
        async for channel in listener:
            async with channel:
                greeted.append(await channel.receive())
                await channel.send(b"hello")

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(greet)
            for name in (b"one", b"two"):
                async with aipc.open_channel(url) as channel:
                    await channel.send(name)
                    assert await channel.receive() == b"hello"
            await listener.aclose()
    assert greeted == [b"one", b"two"]


async def test_leaving_the_iteration(url: str) -> None:
    """`break` leaves nothing for the garbage collector to complain of."""
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url):
            async for channel in listener:
                await channel.aclose()
                break
            await settle()


@pytest.mark.parametrize("moment", Moment)
async def test_cancelled_accept_takes_nothing(moment: Moment, url: str, place: Path) -> None:
    """A connection made at any moment of an accept that is cancelled at any await is accepted once, now or later."""
    cancelled = 0
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener:
            for attempt in range(100):
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(10)
                    at, ready_at = attempt % 5, attempt // 5 % 5
                    made = False

                    def suspended(number: int, parked: bool, peer: socket.socket = peer, ready_at: int = ready_at) -> None:
                        nonlocal made
                        if (parked or number >= ready_at) and not made:
                            made = True
                            peer.connect(f"{place}/socket")

                    outcome = await inject(listener.accept(), at, moment, suspended)
                    if outcome is CANCELLED:
                        cancelled += 1
                        if not made:
                            peer.connect(f"{place}/socket")
                        outcome = await listener.accept()
                    async with outcome as channel:
                        peer.sendall(b"\0\0\0\x02%02d" % attempt)
                        assert await channel.receive() == b"%02d" % attempt
            assert cancelled > 10
            with anyio.move_on_after(0.01) as scope:
                await listener.accept()
            assert scope.cancelled_caught, "one connection was accepted twice"


async def test_two_tasks_accept(url: str) -> None:
    """Each connection goes to exactly one of them."""
    accepted: list[bytes] = []

    async def accept() -> None:
        async with await listener.accept() as channel:
            accepted.append(await channel.receive())

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url) as one, aipc.open_channel(url) as two:
            await one.send(b"one")
            await two.send(b"two")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(accept)
                tasks.start_soon(accept)
    assert sorted(accepted) == [b"one", b"two"]


async def test_closing_wakes_accept(url: str) -> None:
    async def accept() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await listener.accept()

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            await settle()
            await listener.aclose()
            await listener.aclose()


async def test_connection_gone_before_it_is_accepted(url: str, place: Path) -> None:
    """It is accepted all the same, with what it sent."""
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(f"{place}/socket")
                peer.sendall(b"\0\0\0\x04last")
            async with await listener.accept() as channel:
                assert [message async for message in channel] == [b"last"]


async def test_accepted_descriptors_are_not_inherited(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
            for descriptor in (ours.extra(aipc.ChannelAttribute.descriptor), theirs.extra(aipc.ChannelAttribute.descriptor)):
                assert not os.get_inheritable(descriptor)
                assert not os.get_blocking(descriptor)


def fail_first(listener: Any, error: Exception) -> None:
    """Its first connection can't be made a channel of."""
    wrap, errors = listener._wrap, [error]

    def failing(connection: socket.socket) -> Channel:
        if errors:
            raise errors.pop()
        return wrap(connection)

    listener._wrap = failing


async def test_connection_that_is_gone_when_its_options_are_set(url: str) -> None:
    async with aipc.listen(url) as listener:
        fail_first(listener, ConnectionResetError(errno.ECONNRESET, "gone"))
        async with aipc.open_channel(url) as gone, aipc.open_channel(url) as client, await listener.accept() as channel:
            await client.send(b"the next one")
            assert await channel.receive() == b"the next one"
            with pytest.raises(anyio.EndOfStream):
                await gone.receive()


async def test_connection_that_can_not_be_a_channel(url: str) -> None:
    """It is closed, the error raised, and the next one accepted."""
    async with aipc.listen(url) as listener:
        fail_first(listener, ValueError("no channel"))
        async with aipc.open_channel(url) as closed, aipc.open_channel(url):
            with pytest.raises(ValueError, match="no channel"):
                await listener.accept()
            with pytest.raises(anyio.EndOfStream):
                await closed.receive()
            await (await listener.accept()).aclose()
