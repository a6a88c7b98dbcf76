"""The option `spin`: without it no wait looks for a while before it parks."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aipc
from aipc._io.loop.spin import Spin

URLS = (
    "unix:{place}/s", "unix+seqpacket:{place}/q", "shm:{place}/r", "tcp://127.0.0.1:0", "udp://127.0.0.1:9?bind=127.0.0.1:0",
    "unix+dgram:?bind={place}/d", "fifo:{place}/f?create=1&keep_open=1", "sysv-mq:private", "posix-mq:/{name}?create=1&unlink=1",
)  # fmt: skip
LISTENERS = URLS[:3]


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> list[Spin]:
    """Each spin that begins."""
    begun: list[Spin] = []
    begins = Spin.begins

    def noted(spin: Spin) -> None:
        begun.append(spin)
        begins(spin)

    monkeypatch.setattr(Spin, "begins", noted)
    return begun


async def receive_in_vain(channel: aipc.Channel) -> None:
    """Wait until the receive is parked."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        while "1 task waits to receive" not in repr(channel):
            await checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("url", URLS[4:], ids=lambda url: url.partition(":")[0])
async def test_a_channel_that_never_spins(url: str, place: Path, spins: list[Spin]) -> None:
    url = url.format(place=place, name=place.name)
    async with aipc.open_channel(url, spin=False) as channel:
        await receive_in_vain(channel)
    assert not spins


@pytest.mark.anyio
@pytest.mark.parametrize("url", LISTENERS, ids=lambda url: url.partition(":")[0])
async def test_both_ends_of_a_connection_that_never_spin(url: str, place: Path, spins: list[Spin]) -> None:
    url = url.format(place=place) + "?spin=0"
    async with aipc.listen(url) as listener, aipc.open_channel(url) as client, await listener.accept() as server:
        await client.send(b"")
        await server.receive()
        await server.send(b"")
        await client.receive()
        await receive_in_vain(client)
        await receive_in_vain(server)
    assert not spins
