"""`aipc.lock`, and connecting to who does not listen yet."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc import rpc
from aipc.testing import CANCELLED, inject

from ..internet import free_port
from ..peers import python, said

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scheme", ["flock", "fcntl"])
async def test_a_lock_for_a_block(scheme: str, place: Path) -> None:
    url = f"{scheme}:{place}/lock"
    async with aipc.open_lock(url) as other:
        async with aipc.lock(url) as held:
            assert held.locked()
            with pytest.raises(anyio.WouldBlock):
                other.acquire_nowait()
        other.acquire_nowait()
        with anyio.move_on_after(0.01) as scope:
            async with aipc.lock(url):
                raise AssertionError("two holders")
        assert scope.cancelled_caught
    with pytest.raises(KeyError):
        async with aipc.lock(url):
            raise KeyError
    async with aipc.lock(url, shared=True), aipc.lock(url, shared=True):
        pass


async def enter(url: str) -> None:
    async with aipc.lock(url):
        await anyio.lowlevel.checkpoint()


async def test_a_cancelled_block_holds_nothing(place: Path) -> None:
    url = f"flock:{place}/lock"
    async with aipc.open_lock(url) as other:
        for attempt in range(60):
            outcome = await inject(enter(url), attempt % 6)
            assert outcome is CANCELLED or outcome is None
            other.acquire_nowait()
            other.release()


async def test_unknown_options() -> None:
    with pytest.raises(aipc.AddressError):
        async with aipc.lock("flock:/tmp/x?nothing=1"):
            pass


URLS = ("unix:{place}/socket", "unix+seqpacket:{place}/socket", "shm:{place}/ring", "tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("template", URLS)
async def test_waiting_for_a_listener(template: str, place: Path) -> None:
    url = template.format(place=place, port=free_port("127.0.0.1"))
    connected = anyio.Event()

    async def connect() -> None:
        async with aipc.open_channel(url, wait=True) as channel:
            connected.set()
            assert await channel.receive() == b"hello"

    with anyio.fail_after(20):
        with pytest.raises((aipc.ObjectMissing, aipc.NobodyListens)):
            await aipc.open_channel(url)
        with anyio.move_on_after(0.05) as scope:
            await aipc.open_channel(url + "?wait=1")
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.wait_all_tasks_blocked()
            assert not connected.is_set()
            async with aipc.listen(url) as listener, await listener.accept() as channel:
                await channel.send(b"hello")
                await connected.wait()


LATE = """
import sys
import anyio, aipc
from aipc import rpc

router = rpc.Router()

@router.method
async def add(a: int, b: int) -> int:
    return a + b

async def main():
    print("about to listen", flush=True)
    async with aipc.listen(sys.argv[1]) as listener:
        await rpc.serve(listener, router)

anyio.run(main)
"""


async def test_a_client_waits_for_its_service(place: Path) -> None:
    url = f"unix:{place}/socket"
    with anyio.fail_after(20), python(LATE, url) as server:
        assert said(server) == "about to listen"
        async with rpc.connect(url, wait=True) as client:
            assert await client.call("add", 1, 2) == 3
