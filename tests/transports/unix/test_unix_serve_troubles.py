"""What a server meets: peers that leave, and a lack of descriptors. What the log says of it."""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import settle, until
from aipc.transports.listener import SocketListener

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(place: Path) -> str:
    return f"unix:{place}/socket"


async def echo(channel: Channel) -> None:
    async for message in channel:
        await channel.send(message)


async def until_its_end(channel: Channel) -> None:
    while True:
        await channel.receive()


async def until_its_end_and_closed(channel: Channel) -> None:
    async with channel:
        await until_its_end(channel)


async def until_its_end_in_a_group(channel: Channel) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_its_end, channel)
        tasks.start_soon(anyio.sleep_forever)


async def until_its_end_and_failing(channel: Channel) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_its_end, channel)
        try:
            await anyio.sleep_forever()
        finally:
            raise ZeroDivisionError("the handler's own")


@pytest.mark.parametrize(
    ("handler", "errors"),
    [(until_its_end, 0), (until_its_end_and_closed, 0), (until_its_end_in_a_group, 0), (until_its_end_and_failing, 1)],
)
async def test_handler_whose_peer_leaves(
    handler: Callable[[Channel], Awaitable[None]], errors: int, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends by EndOfStream, and that is no error; what else it raised is."""
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            async with aipc.open_channel(url) as channel:
                await channel.send(b"last")
            await settle()
            await listener.drain()
    assert [record.levelno for record in caplog.records if record.name == "aipc"] == [logging.ERROR] * errors


async def test_handler_whose_peer_leaves_with_messages_unread(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line tells it, without a traceback: a thousand clients may leave at once."""

    async def answer_for_ever(channel: Channel) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_its_end, channel)
            while True:
                await channel.send(bytes(1000))

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer_for_ever)
            async with aipc.open_channel(url) as channel:
                await channel.receive()
            await listener.drain()
    (record,) = [record for record in caplog.records if record.name == "aipc"]
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert "the handler ended" in record.message


async def test_server_without_a_free_descriptor(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, once, and what would be right; clients wait meanwhile."""
    attempts: list[None] = []
    accept = SocketListener._connection

    def counted(self: SocketListener) -> socket.socket | None:
        attempts.append(None)
        return accept(self)

    monkeypatch.setattr(SocketListener, "_connection", counted)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, aipc.open_channel(url) as client, anyio.create_task_group() as tasks:
            await client.send(b"hello")
            with open(os.devnull) as lowest:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), limits[1]))
            try:
                tasks.start_soon(listener.serve, echo)
                await until(lambda: len(attempts) == 3)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert await client.receive() == b"hello"
            tasks.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.name == "aipc"]
    assert record.levelno == logging.WARNING
    assert "Too many open files" in record.message
    assert "RLIMIT_NOFILE" in record.message
