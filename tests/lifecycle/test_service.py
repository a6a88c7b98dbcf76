"""The life of a service: started, reloaded, stopped gracefully or by force; what its clients and systemd see of it."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ..peers import python, said

pytestmark = pytest.mark.anyio
ME = os.getpid()
GONE = (anyio.EndOfStream, anyio.BrokenResourceError)


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket) -> list[str]:
    """The first line of each thing that was told so far."""
    manager.setblocking(False)
    lines = []
    with suppress(BlockingIOError):
        while True:
            lines.append(manager.recv(4096).decode().split("\n")[0])
    return lines


async def echo(channel: aipc.Channel) -> None:
    async for message in channel:
        await channel.send(message)


async def slow_echo(channel: aipc.Channel) -> None:
    message = await channel.receive()
    await anyio.sleep(0.05)
    await channel.send(message)


async def endless(channel: aipc.Channel) -> None:
    await channel.send(b"here")
    await anyio.sleep_forever()


async def tell(signum: int) -> None:
    os.kill(ME, signum)
    await settle()


@asynccontextmanager
async def telling(*signums: int, after: anyio.Event | None = None) -> AsyncIterator[None]:
    """Send this process signals while the block waits for its service's end."""

    async def send() -> None:
        if after is not None:
            await after.wait()
        await settle()
        for signum in signums:
            os.kill(ME, signum)
            await anyio.sleep(0.01)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            yield


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_that_runs_is_answered(signum: int, place: Path, manager: socket.socket) -> None:
    url = f"unix:{place}/socket"
    answers: list[bytes] = []
    before = signal.getsignal(signum)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, aipc.service() as service:

            async def ask() -> None:
                async with aipc.open_channel(url) as client:
                    await client.send(b"x")
                    os.kill(ME, signum)
                    await service.stopping()
                    await settle()
                    with pytest.raises((aipc.NobodyListens, aipc.ObjectMissing)):
                        await aipc.open_channel(url)
                    answers.append(await client.receive())

            await service.listen(url, slow_echo)
            assert heard(manager) == []
            tasks.start_soon(ask)
    assert answers == [b"x"]
    assert (service.exit_code, service.is_stopping) == (0, True)
    assert heard(manager) == ["READY=1", "STOPPING=1"]
    assert not (place / "socket").exists()
    assert signal.getsignal(signum) == before


async def test_the_deadline(place: Path) -> None:
    url = f"unix:{place}/socket"
    async with telling(signal.SIGTERM), aipc.service(grace=0.05) as service:
        await service.listen(url, endless)
        client = await aipc.open_channel(url)
        await client.receive()
    assert service.exit_code == 1
    with pytest.raises(GONE):
        await client.receive()
    await client.aclose()


async def test_a_second_signal_forces(place: Path) -> None:
    url = f"unix:{place}/socket"
    async with telling(signal.SIGTERM, signal.SIGTERM), aipc.service(grace=3_600) as service:
        await service.listen(url, endless)
        client = await aipc.open_channel(url)
        await client.receive()
    assert service.forced
    await client.aclose()


async def test_nothing_served_ends_at_once(manager: socket.socket) -> None:
    with anyio.fail_after(30):
        async with aipc.service() as service:
            service.ready("at once")
            assert heard(manager) == ["READY=1"]
    assert service.exit_code == 0
    assert heard(manager) == ["STOPPING=1"]


async def test_a_block_that_waits_for_ever_is_cancelled() -> None:
    async with telling(signal.SIGTERM), aipc.service(grace=3_600) as service:
        await anyio.sleep_forever()
    assert service.exit_code == 0


@pytest.mark.parametrize(("grace", "finished"), [(3_600, True), (0.01, False)])
async def test_a_block_that_knows_has_its_time(grace: float, finished: bool) -> None:
    done = False
    async with telling(signal.SIGTERM), aipc.service(grace=grace) as service:
        await service.stopping()
        await anyio.sleep(0.05 if finished else 3_600)
        done = True
    assert done == finished
    assert service.forced == (not finished)


async def test_background_tasks_outlive_the_handlers(place: Path) -> None:
    order: list[str] = []

    async def background() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            order.append("background")

    async def handle(channel: aipc.Channel) -> None:
        await slow_echo(channel)
        order.append("handler")

    async with telling(signal.SIGTERM), aipc.service() as service:
        service.start_soon(background)
        await service.listen(f"unix:{place}/socket", handle)
        client = await aipc.open_channel(f"unix:{place}/socket")
        await client.send(b"x")
    await client.aclose()
    assert order == ["handler", "background"]


async def test_errors_end_it_and_come_out_by_themselves(place: Path) -> None:
    async def fail() -> None:
        raise LookupError("background")

    with anyio.fail_after(30):
        with pytest.raises(LookupError, match="background"):  # noqa: PT012 - raised at the end
            async with aipc.service() as service:
                await service.listen(f"unix:{place}/socket", echo)
                service.start_soon(fail)
        with pytest.raises(LookupError, match="block"):  # noqa: PT012 - raised at the end
            async with aipc.service() as service:
                await service.listen(f"unix:{place}/socket", echo)
                raise LookupError("block")
        with pytest.raises(anyio.ClosedResourceError):  # noqa: PT012 - raised at the end
            async with aipc.service() as service:
                listener = await service.listen(f"unix:{place}/socket", echo)
                await settle()
                await listener.aclose()


async def test_cancelled(place: Path) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with aipc.service() as service:
            await service.listen(f"unix:{place}/socket", endless)
            client = await aipc.open_channel(f"unix:{place}/socket")
            await client.receive()
    assert scope.cancelled_caught
    await client.aclose()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_reload(kind: str, manager: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    done = anyio.Event()

    def reload() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("a mistake in the configuration")
        if len(calls) == 3:
            done.set()

    async def reload_slowly() -> None:
        for _ in range(3):  # while it runs: one more reload, however many
            os.kill(ME, signal.SIGHUP)
            await anyio.sleep(0.01)
        reload()
        if len(calls) == 2:
            assert heard(manager)[-1] == "RELOADING=1"

    async with (
        telling(signal.SIGTERM, after=done),
        aipc.service(reload=reload if kind == "plain" else reload_slowly) as service,
    ):
        service.ready()
        with caplog.at_level(logging.ERROR, "aipc"):
            os.kill(ME, signal.SIGHUP)
            while kind == "plain" and len(calls) < 3:
                await tell(signal.SIGHUP)
            await service.stopping()
    assert "a mistake in the configuration" in caplog.text
    assert 3 <= len(calls) <= 4
    if kind == "plain":
        told = heard(manager)
        assert told[:3] == ["READY=1", "RELOADING=1", "READY=1"]
        assert told[-1] == "STOPPING=1"


async def test_without_a_reload_sighup_is_not_ours() -> None:
    before = signal.getsignal(signal.SIGHUP)
    async with aipc.service():
        assert signal.getsignal(signal.SIGHUP) == before


async def test_watchdog(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    told: list[str] = []
    with anyio.fail_after(30):
        async with aipc.service():
            while told.count("WATCHDOG=1") < 3:
                await anyio.sleep(0.001)
                told += heard(manager)


async def test_a_manager_that_is_gone_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    async with aipc.service() as service:
        pass
    assert service.exit_code == 0
    assert "could not be told" in caplog.text


_SERVICE = """
import sys, anyio, aipc
from aipc._io.loop import backend
async def handle(channel):
    message = await channel.receive()
    await anyio.sleep(0.002)
    await channel.send(message)
async def main():
    async with aipc.service() as service:
        await service.listen(sys.argv[2], handle)
        print("ready", flush=True)
    return service.exit_code
sys.exit(backend.run(sys.argv[1], main))
"""


async def test_told_to_stop_under_load(loop: str, place: Path) -> None:
    """Every connection that was taken is answered; the exit status is 0; no socket file stays."""
    url = f"unix:{place}/socket"
    answered = 0
    with python(_SERVICE, loop, url) as running, anyio.fail_after(60):
        assert said(running) == "ready"

        async def ask(client: int) -> None:
            nonlocal answered
            number = 0
            while True:
                message = b"%d %d" % (client, number)
                try:
                    channel = await aipc.open_channel(url)
                except (aipc.NobodyListens, aipc.ObjectMissing):
                    return
                async with channel:
                    await channel.send(message)
                    assert await channel.receive() == message
                answered += 1
                number += 1

        async with anyio.create_task_group() as tasks:
            for client in range(50):
                tasks.start_soon(ask, client)
            while answered < 500:
                await anyio.sleep(0.001)
            running.terminate()
        assert running.wait(30) == 0
    assert answered >= 500
    assert list(place.iterdir()) == []


def test_the_name_is_a_function_whatever_came_first() -> None:
    """And not the module that it is in."""
    with python("import aipc\naipc.Service\nimport aipc.lifecycle\nprint(callable(aipc.service))") as child:
        assert said(child) == "True"
