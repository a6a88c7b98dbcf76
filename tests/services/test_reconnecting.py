"""A channel to a service that restarts."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing import CANCELLED, inject

pytestmark = pytest.mark.anyio

URLS = ("unix:{place}/socket", "shm:{place}/ring")


async def echo(channel: Channel) -> None:
    async for message in channel:
        await channel.send(message)


@pytest.mark.parametrize("template", URLS)
async def test_each_loss_is_told_and_the_next_call_connects(template: str, place: Path) -> None:
    url = template.format(place=place)
    with anyio.fail_after(20):
        async with await aipc.listen(url) as first, anyio.create_task_group() as tasks:
            tasks.start_soon(first.serve, echo)
            channel = await aipc.reconnecting(url)
            await channel.send(b"1")
            assert await channel.receive() == b"1"
            tasks.cancel_scope.cancel()
        with pytest.raises(aipc.Disconnected, match="what was sent last may not have arrived"):
            await channel.receive()
        with pytest.raises(anyio.WouldBlock):
            channel.send_nowait(b"")
        with anyio.move_on_after(0.02) as scope:
            await channel.send(b"lost")
        assert scope.cancelled_caught
        async with channel, await aipc.listen(url) as second, anyio.create_task_group() as tasks:
            tasks.start_soon(second.serve, echo)
            await channel.send(b"2")
            assert await channel.receive() == b"2"
            assert channel.connections == 2
            assert channel.statistics().messages_sent == channel.statistics().messages_received == 2
            tasks.cancel_scope.cancel()
        await channel.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await channel.send(b"")


async def test_closing_ends_a_wait_for_the_service(place: Path) -> None:
    url = f"unix:{place}/socket"
    with anyio.fail_after(20):
        async with aipc.listen(url) as listener:
            channel = await aipc.reconnecting(url)
            await (await listener.accept()).aclose()
        with pytest.raises(aipc.Disconnected):
            await channel.receive()

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await channel.receive()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await channel.aclose()


async def test_cancelled_at_any_await(place: Path) -> None:
    url = f"unix:{place}/socket"
    with anyio.fail_after(30):
        async with await aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            for attempt in range(60):
                async with await aipc.reconnecting(url) as channel:
                    await (await channel.connected()).aclose()
                    with pytest.raises(aipc.Disconnected):
                        await channel.receive()
                    outcome = await inject(channel.send(b"x"), attempt % 6)
                    assert outcome is CANCELLED or outcome is None
                    await channel.send(b"end")
                    while await channel.receive() != b"end":
                        pass
            tasks.cancel_scope.cancel()


def test_not_every_mechanism_connects() -> None:
    with pytest.raises(aipc.AddressError, match="wait"):
        aipc.reconnecting("sysv-mq:private")
