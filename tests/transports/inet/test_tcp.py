"""TCP among real peers: socat, a C program and plain sockets, each way, over IPv4 and IPv6."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing import CANCELLED, inject

from ...internet import HOSTS, free_port, in_thread, listening, plain_client, port_of
from ...peers import compile_peer, process, said, tell
from ...subjects import CHANNELS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_peer("tcp", tmp_path_factory)


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel that was accepted, and the plain socket at its other end."""
    async with listening(**options) as (listener, _):
        with plain_client(listener) as plain:
            async with await listener.accept() as channel:
                yield channel, plain


async def open_patiently(url: str, **options: Any) -> Channel:
    """A channel to a peer that may not listen yet."""
    while True:
        try:
            return await aipc.open_channel(url, **options)
        except aipc.NobodyListens:
            await anyio.sleep(0.01)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_c_client(framing: str, host: str, peer: Path) -> None:
    async with listening(host, framing=framing) as (listener, url):
        port = url.rpartition(":")[2]
        with process(str(peer), "connect", host.strip("[]"), port, framing, "from C") as client:
            async with await listener.accept() as channel:
                assert await channel.receive() == b"from C"
                await channel.send(b"from Python")
                await channel.send_eof()
                assert await in_thread(said, client) == "from Python"
                assert [message async for message in channel] == []


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_c_server(framing: str, host: str, peer: Path) -> None:
    with anyio.fail_after(20), process(str(peer), "listen", host.strip("[]"), framing, "from C") as server:
        port = await in_thread(said, server)
        async with aipc.open_channel(f"tcp://{host}:{port}", framing=framing) as channel:
            assert await channel.receive() == b"from C"
            await channel.send(b"from Python")
            await channel.send_eof()
            assert await in_thread(said, server) == "from Python"


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "TCP4"), ("[::1]", "TCP6")])
async def test_socat_server(host: str, kind: str) -> None:
    port = free_port(host)
    with anyio.fail_after(20), process("socat", f"{kind}-LISTEN:{port},bind={host}", "EXEC:cat"):
        async with await open_patiently(f"tcp://{host}:{port}", framing="none") as channel:
            sent = b"there and back again\n" * 10_000
            got = b""
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    await channel.send(sent)
                    await channel.send_eof()

                tasks.start_soon(send)
                async for chunk in channel:
                    got += chunk
            assert got == sent


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "TCP4"), ("[::1]", "TCP6")])
async def test_socat_client(host: str, kind: str) -> None:
    async with listening(host, framing="lines") as (listener, url):
        with process("socat", "-", f"{kind}:{url.removeprefix('tcp://')}") as client:
            async with await listener.accept() as channel:
                tell(client, "hello")
                assert await channel.receive() == b"hello"
                await channel.send(b"and good bye")
                assert await in_thread(said, client) == "and good bye"


async def test_one_shot_clients() -> None:
    """Each says one thing, ends its sending half, and reads until the end, as nc does."""

    async def handler(channel: Channel) -> None:
        async for line in channel:
            await channel.send(line.upper())

    def client(port: int, number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as plain, plain.makefile("rb") as answers:
            plain.sendall(b"one-shot %d" % number)  # the last line lacks its line feed
            plain.shutdown(socket.SHUT_WR)
            return answers.read()

    async with listening(framing="lines") as (listener, _), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        for number in range(100):
            assert await in_thread(client, port_of(listener), number) == b"ONE-SHOT %d\n" % number
        tasks.cancel_scope.cancel()


def reset(plain: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()


async def test_client_that_connects_and_resets(caplog: pytest.LogCaptureFixture) -> None:
    """It ends its own handler; the server goes on."""
    seen: list[object] = []

    async def handler(channel: Channel) -> None:
        try:
            await channel.send(await channel.receive())
        except Exception as error:
            seen.append(type(error))
            raise

    async with listening() as (listener, url), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", port_of(listener)), 10)
            reset(plain)
        async with aipc.open_channel(url) as channel:
            await channel.send(b"still here?")
            assert await channel.receive() == b"still here?"
        tasks.cancel_scope.cancel()
    assert seen == [anyio.BrokenResourceError] * 20
    assert len([record for record in caplog.records if record.name == "aipc"]) == 20


async def test_reset_is_broken_both_ways() -> None:
    async with connected() as (channel, plain):
        plain.sendall(b"\0\0\0\x05first")
        assert await channel.receive() == b"first"
        reset(plain)
        with pytest.raises(anyio.BrokenResourceError, match="tcp://"):
            await channel.receive()
        with pytest.raises(anyio.BrokenResourceError, match="tcp://"):
            await channel.send(b"")


async def test_server_speaks_first() -> None:
    """What it says before the client asks is not lost."""
    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(20):
        port = server.getsockname()[1]

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\0\0\0\x07welcome")

        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_thread, speak)
                async with aipc.open_channel(f"tcp://127.0.0.1:{port}") as channel:
                    assert [message async for message in channel] == [b"welcome"]


async def test_half_close() -> None:
    async with connected(framing="none") as (channel, plain):
        await channel.send(b"question")
        await channel.send_eof()
        with plain.makefile("rb") as file:
            assert file.read() == b"question"
        plain.sendall(b"answer")
        assert await channel.receive() == b"answer"
        with pytest.raises(anyio.ClosedResourceError):
            await channel.send(b"more")


@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_peek(framing: str) -> None:
    """It shows the next message, again and again, and takes nothing."""
    async with connected(framing=framing) as (channel, plain):
        prefix = b"" if framing == "none" else b"\0\0\0\3"
        plain.sendall(prefix + b"one")
        assert [await channel.peek(), await channel.peek()] == [b"one", b"one"]
        plain.sendall(prefix + b"two")
        assert await channel.peek() == b"one"
        assert channel.statistics().messages_received == 0
        assert [await channel.receive(), await channel.peek(), await channel.receive()] == [b"one", b"two", b"two"]
        plain.shutdown(socket.SHUT_WR)
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await channel.peek()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
        await channel.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await channel.peek()


async def test_cancelled_peek_takes_nothing(place: Path) -> None:
    async with CHANNELS["tcp"](place).open_pair() as (sender, receiver):
        cancelled = 0
        for attempt in range(500):
            message = b"%d" % attempt
            sent = False

            def suspended(number: int, parked: bool, message: bytes = message, ready_at: int = attempt // 5 % 5) -> None:
                nonlocal sent
                if (parked or number >= ready_at) and not sent:
                    sent = True
                    sender.send_nowait(message)

            outcome = await inject(receiver.peek(), attempt % 5, suspended=suspended)
            cancelled += outcome is CANCELLED
            if not sent:
                sender.send_nowait(message)
            assert outcome in (CANCELLED, message)
            assert await receiver.receive() == message
        assert cancelled > 50


async def test_peek_wakes_a_receiver() -> None:
    """What a peek read is the receiver's, who waits in another task."""
    async with connected() as (channel, plain), anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await channel.receive())

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        plain.sendall(b"\0\0\0\3one")
        assert await channel.peek() == b"one"
    assert got == [b"one"]


async def test_closing_with_messages_unread_resets() -> None:
    async with connected() as (channel, plain):
        plain.sendall(b"\0\0\0\x06unread")
        await channel.peek()
        plain.sendall(b"\0\0\0\x06unread")
        await channel.aclose()
        with pytest.raises(ConnectionResetError):
            plain.recv(1)
