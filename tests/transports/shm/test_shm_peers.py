"""The ring between two processes: messages each way, an idle one's sleep, and a peer in C."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc

from ...conftest import LOOPS
from ...peers import compile_peer, process, python, said
from .rings import ECHO, SIZES, echoed

pytestmark = pytest.mark.anyio


async def test_two_processes(place: Path) -> None:
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with python(ECHO, str(place), "4096") as peer:
            async with await listener.accept() as channel:
                await echoed(channel, SIZES)
                await channel.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
                assert peer.wait() == 0


IDLE = """
import resource, sys, time
import anyio, aipc
async def main():
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring") as channel, anyio.create_task_group() as tasks:
        await channel.send(b"hello")
        assert await channel.receive() == b"hello"
        tasks.start_soon(channel.receive)
        await anyio.sleep(0.2)
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.process_time()
        await anyio.sleep(1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before, time.process_time() - cpu, flush=True)
        tasks.cancel_scope.cancel()
loop = sys.argv[2]
anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_channel_does_not_wake_the_loop(loop: str, place: Path) -> None:
    """In a second, a process that waits sleeps once: for the clock that ends the second."""

    async def serve() -> None:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            with python(IDLE, str(place), loop) as idle:
                async with await listener.accept() as channel:
                    await channel.send(await channel.receive())
                    switches, seconds = said(idle).split()
                    assert int(switches) <= 3
                    assert float(seconds) < 0.01

    anyio.run(serve)


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_peer("shm", tmp_path_factory)


def turned(message: bytes) -> bytes:
    return bytes(byte ^ 255 for byte in message)


async def talk_with_c(channel: aipc.Channel) -> None:
    messages = [os.urandom(size) for size in SIZES]
    with anyio.fail_after(60):
        for message in messages:
            await channel.send(message)
            assert await channel.receive() == turned(message)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send_many, messages * 20)
            for message in messages * 20:
                assert await channel.receive() == turned(message)
        await channel.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()


async def test_c_client(c_peer: Path, place: Path) -> None:
    """It brings the memory."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with process(str(c_peer), "connect", f"{place}/ring", "4096") as peer:
            async with await listener.accept() as channel:
                await talk_with_c(channel)
            assert peer.wait() == 0


async def test_c_server(c_peer: Path, place: Path) -> None:
    """It takes ours."""
    with process(str(c_peer), "listen", f"{place}/ring") as peer:
        assert said(peer) == "ready"
        async with aipc.open_channel(f"shm:{place}/ring", capacity=4096) as channel:
            await talk_with_c(channel)
        assert peer.wait() == 0
