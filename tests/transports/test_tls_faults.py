"""TLS when something goes wrong: errors of the socket, ends at the wrong moment, a peer that does not read."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
from anyio.streams.tls import TLSAttribute

import aipc
from aipc import ChannelAttribute
from aipc.abc import Channel
from aipc.testing.expect import settle, until

from ..internet import TlsByHand, certificate_files, plain_client
from ..internet import tls_listening as listening
from ..io.waiters import loop_of
from ..peers import require, run

pytestmark = pytest.mark.anyio

TALK = """
import ssl, sys, anyio, aipc
from anyio.abc import SocketAttribute

async def main():
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context(cafile=sys.argv[3])
    server.load_cert_chain(sys.argv[2])
    got = []

    async def receive():
        async with await listener.accept() as channel:
            try:
                async for message in channel:
                    got.append(int(message))
            except aipc.ProtocolError:
                got.append("cut short")

    with anyio.fail_after(30):
        async with aipc.listen("tls://127.0.0.1:0", ssl_context=server) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            url = f"tls://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            async with aipc.open_channel(url, ssl_context=client) as channel:
                failed = 0
                for number in range(40):
                    try:
                        await channel.send(b"%d" % number)
                    except anyio.BrokenResourceError:
                        failed += 1
                sent = channel.statistics().messages_sent
    print(got, sent, failed, sep="; ")

loop = sys.argv[1]
anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})
"""


@pytest.fixture
def loop(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    return loop_of(anyio_backend)


def talk_with_errors(loop: str, directory: Path, injected: str) -> list[str]:
    """What `TALK` prints: what came, how many messages count as sent, how many sends failed. send(2) fails as strace makes it."""
    require("strace")
    files = certificate_files(directory)
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", f"inject=sendto:{injected}")
    return run(*strace, sys.executable, "-c", TALK, loop, files["certfile"], files["cafile"]).strip().split("; ")


@pytest.mark.parametrize("error", ["ENOBUFS", "ENOMEM"])
def test_passing_error_of_the_socket_repeats_nothing(loop: str, error: str, tmp_path: Path) -> None:
    """The handshake takes fewer than 10 calls. What was encrypted goes out with the next try, and is not encrypted again."""
    assert talk_with_errors(loop, tmp_path, f"error={error}:when=10..40+3") == [str([*range(40)]), "40", "0"]


def test_lasting_error_of_the_socket_stays(loop: str, tmp_path: Path) -> None:
    """Here the socket only pretends: it would take later messages, but they would come after a message that is missing."""
    got, sent, failed = talk_with_errors(loop, tmp_path, "error=ECONNRESET:when=20")
    *came, end = got.strip("[]").split(", ")
    assert came == [str(number) for number in range(len(came))]
    assert end == "'cut short'"
    assert 0 < len(came) < 40
    assert (int(sent), int(failed)) == (len(came) + 1, 40 - len(came))  # one had begun


@asynccontextmanager
async def by_hand(**options: object) -> AsyncIterator[tuple[Channel, TlsByHand]]:
    """An accepted channel before its handshake, and its client."""
    async with listening(**options) as (listener, _):
        with plain_client(listener) as plain:
            async with await listener.accept() as channel:
                yield channel, TlsByHand(plain)


def take_in(channel: Channel) -> None:
    """Let the channel read until its handshake is made, without letting another task run."""
    while True:
        with suppress(anyio.WouldBlock):
            channel.receive_nowait()
        with suppress(ValueError):
            channel.extra(TLSAttribute.peer_certificate)
            return


@pytest.mark.parametrize("operation", ["send", "send_many", "send_eof", "handshake"])
async def test_handshake_that_another_task_completes(operation: str) -> None:
    """A server speaks first: it waits for the handshake, whose last words another task reads."""
    async with by_hand() as (channel, client), anyio.create_task_group() as tasks:
        arguments = {"send": (b"welcome",), "send_many": ([b"welcome"],)}.get(operation, ())
        ended: list[bool] = []

        async def speak() -> None:
            await getattr(channel, operation)(*arguments)
            ended.append(True)

        tasks.start_soon(speak)
        await client.handshake_but_last()
        await settle()
        client.say()
        take_in(channel)
        await until(lambda: ended)


@pytest.mark.parametrize("garbage", [b"no TLS, that is", b"\x17\x03\x03\x00\x20" + bytes(32)])
@pytest.mark.parametrize("during_handshake", [True, False])
async def test_error_is_every_waiters(garbage: bytes, during_handshake: bool) -> None:
    """One task meets it; nothing comes after it, to wake those who wait in the kernel."""
    async with by_hand() as (channel, client):

        async def expect_error() -> None:
            for _ in range(2):
                with pytest.raises(aipc.ProtocolError):
                    await channel.receive()

        async with anyio.create_task_group() as tasks:
            if not during_handshake:
                tasks.start_soon(client.handshake)
                await channel.handshake()
            tasks.start_soon(expect_error)
            tasks.start_soon(expect_error)
            await settle()
            client.plain.sendall(garbage)
            with pytest.raises(aipc.ProtocolError):
                take_in(channel) if during_handshake else receive_at_once(channel)


def receive_at_once(channel: Channel) -> bytes:
    """Without letting another task run."""
    while True:
        with suppress(anyio.WouldBlock):
            return channel.receive_nowait()


def reset(plain: socket.socket) -> None:
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    plain.close()


def hung_up(channel: Channel) -> bool:
    poll = select.poll()
    poll.register(channel.extra(ChannelAttribute.descriptor), 0)
    return bool(poll.poll(0))


async def test_message_before_a_reset() -> None:
    """The handshake's last words and a message come together, then a reset: the tickets meet it, and the message is still there."""
    async with by_hand() as (channel, client):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive)
            await client.handshake_but_last()
            await settle()
            tasks.cancel_scope.cancel()
        client.ssl.write(b"\0\0\0\x05hello")
        client.say()
        reset(client.plain)
        await until(lambda: hung_up(channel))
        assert await channel.receive() == b"hello"
        with pytest.raises(anyio.BrokenResourceError):
            await channel.receive()


async def test_reset_is_no_end() -> None:
    """However often it is asked about, also where the end of TCP is the stream's: the kernel tells a reset once, then the end."""
    async with by_hand(ragged_end=True) as (channel, client):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.handshake)
            await channel.handshake()
        reset(client.plain)
        for _ in range(3):
            with pytest.raises(anyio.BrokenResourceError):
                await channel.receive()
