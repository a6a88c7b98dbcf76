"""TLS among real peers, socat, openssl and the standard library's sockets: handshakes, ends, cancellation."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Channel, Listener
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle

from ...internet import certificate_files, contexts, in_thread, plain_client, port_of
from ...internet import tls_listening as listening
from ...peers import process, require, said, tell
from ...subjects import CHANNELS

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return certificate_files(tmp_path)


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    with anyio.fail_after(20):
        yield


def secured(plain: socket.socket) -> ssl.SSLSocket:
    """Over it, TLS, without suppressing anything."""
    return contexts()[1].wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def receive_at_once(channel: Channel) -> bytes:
    """Without letting another task run."""
    while True:
        with suppress(anyio.WouldBlock):
            return channel.receive_nowait()


async def test_socat_server(files: dict[str, str]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    listen = f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,cert={files['certfile']},verify=0"
    with anyio.fail_after(20), process("socat", listen, "EXEC:cat"):
        while True:
            try:
                channel = await aipc.open_channel(f"tls://127.0.0.1:{port}", framing="lines", cafile=files["cafile"])
                break
            except aipc.NobodyListens:
                await anyio.sleep(0.01)
        async with channel, anyio.create_task_group() as tasks:
            lines = [b"%d" % number for number in range(20_000)]
            tasks.start_soon(channel.send_many, lines)
            assert [await channel.receive() for _ in lines] == lines


async def test_socat_client(files: dict[str, str]) -> None:
    async with listening(framing="lines") as (listener, _):
        connect = f"OPENSSL:127.0.0.1:{port_of(listener)},cafile={files['cafile']},commonname=localhost"
        with process("socat", "-", connect.replace(",commonname=localhost", ",verify=0")) as client:
            async with await listener.accept() as channel:
                tell(client, "hello")
                assert await channel.receive() == b"hello"
                await channel.send(b"and good bye")
                assert await in_thread(said, client) == "and good bye"


async def test_openssl_client_changes_keys(files: dict[str, str]) -> None:
    """`K` at openssl's prompt: new keys for both sides. Neither side's messages suffer."""
    require("openssl")
    async with listening(framing="lines") as (listener, _):
        connect = f"openssl s_client -connect 127.0.0.1:{port_of(listener)} -CAfile {files['cafile']} -brief 2>&1"
        with process("sh", "-c", f"exec {connect}") as client:
            async with await listener.accept() as channel:
                for number in range(5):
                    tell(client, f"hello {number}")
                    assert await channel.receive() == b"hello %d" % number
                    await channel.send(b"answer %d" % number)
                    await in_thread(until_said, client, f"answer {number}")
                    tell(client, "K")
                    await in_thread(until_said, client, "KEYUPDATE")


def until_said(client: Any, line: str) -> None:
    while (said_now := said(client)) != line:
        assert said_now or client.poll() is None, "openssl ended"


async def test_plain_client_both_ways() -> None:
    """What stands in the records is framed as everywhere."""

    def talk(plain: socket.socket) -> bytes:
        with secured(plain) as client:
            client.sendall(b"\0\0\0\x05hello" + b"\0\x03\x0d\x40" + bytes(200_000))
            with client.makefile("rb") as file:
                return file.read()

    async with listening() as (listener, _), anyio.create_task_group() as tasks:
        with plain_client(listener) as plain:
            got: list[bytes] = []

            async def client() -> None:
                got.append(await in_thread(talk, plain))

            tasks.start_soon(client)
            async with await listener.accept() as channel:
                assert [await channel.receive(), await channel.receive()] == [b"hello", bytes(200_000)]
                await channel.send(b"bye")
            while not got:
                await anyio.sleep(0.001)
            assert got == [b"\0\0\0\x03bye"]


async def test_server_speaks_first() -> None:
    """Its send makes the handshake; `send_nowait` would have to wait for that."""
    async with listening() as (listener, url), anyio.create_task_group() as tasks:

        async def serve() -> None:
            channel = await listener.accept()
            with pytest.raises(anyio.WouldBlock):
                channel.send_nowait(b"too early")
            await channel.send(b"welcome")
            await channel.aclose()

        tasks.start_soon(serve)
        async with aipc.open_channel(url, ssl_context=contexts()[1]) as channel:
            assert [message async for message in channel] == [b"welcome"]


async def test_client_that_never_speaks_holds_up_nobody() -> None:
    async def echo(channel: Channel) -> None:
        async for message in channel:
            await channel.send(message)

    async with listening() as (listener, url), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        with plain_client(listener), plain_client(listener) as half:
            half.sendall(b"\x16\x03\x01")  # the beginning of a handshake
            async with aipc.open_channel(url, ssl_context=contexts()[1]) as channel:
                await channel.send(b"served")
                assert await channel.receive() == b"served"
        tasks.cancel_scope.cancel()


async def test_byte_by_byte() -> None:
    """Handshake and records that come in single bytes."""

    def talk(plain: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = contexts()[1].wrap_bio(incoming, outgoing, server_hostname="localhost")

        def drip() -> None:
            for byte in outgoing.read():
                plain.sendall(bytes([byte]))

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                drip()
                incoming.write(plain.recv(65536))
        client.write(b"\0\0\0\x05hello")
        client.write(b"\0\0\0\x05again")
        drip()

    async with listening(nodelay=True) as (listener, _), anyio.create_task_group() as tasks:
        with plain_client(listener) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.start_soon(in_thread, talk, plain)
            async with await listener.accept() as channel:
                assert [await channel.receive(), await channel.receive()] == [b"hello", b"again"]


class TestEnd:
    @pytest.mark.parametrize("ragged", [False, True])
    async def test_without_close_notify(self, ragged: bool) -> None:
        """Anybody on the way can end a TCP connection: only close_notify is the peer's own word."""

        def talk(plain: socket.socket) -> None:
            client = secured(plain)
            client.sendall(b"\0\0\0\x04last")
            client.shutdown(socket.SHUT_WR)  # TCP's end, without TLS's
            while client.recv(65536):
                pass
            client.close()

        async with listening(ragged_end=ragged) as (listener, _), anyio.create_task_group() as tasks:
            with plain_client(listener) as plain:
                tasks.start_soon(in_thread, talk, plain)
                async with await listener.accept() as channel:
                    assert await channel.receive() == b"last"
                    for _ in range(2):
                        with pytest.raises(anyio.EndOfStream if ragged else aipc.ProtocolError):
                            await channel.receive()

    async def test_half_close_keeps_what_had_come_with_the_handshake(self) -> None:
        """OpenSSL drops records that it meets while it says close_notify."""

        def talk(plain: socket.socket) -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = contexts()[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            client.write(b"\0\0\0\x05early")
            plain.sendall(outgoing.read())  # the handshake's end and the message together
            while True:
                try:
                    return client.read(1)
                except ssl.SSLWantReadError:
                    incoming.write(plain.recv(65536))

        async with listening() as (listener, _), anyio.create_task_group() as tasks:
            with plain_client(listener) as plain:
                ends: list[bytes] = []

                async def client() -> None:
                    ends.append(await in_thread(talk, plain))

                tasks.start_soon(client)
                async with await listener.accept() as channel:
                    await channel.handshake()
                    await channel.send_eof()
                    assert await channel.receive() == b"early"
                    while not ends:
                        await anyio.sleep(0.001)
        assert ends == [b""]

    async def test_closing_loses_nothing_over_unread_tickets(self) -> None:
        """A TLS 1.3 server sends tickets unasked. A socket closed with these unread is reset, and drops what it was to send."""
        async with listening(receive_buffer=4096) as (listener, url):
            client = await self.client_with_tickets(listener, url)
            async with client[1] as theirs:
                sent = bytes(100_000)
                await client[0].send(sent)
                await client[0].aclose()
                assert [message async for message in theirs] == [sent]

    async def client_with_tickets(self, listener: Listener, url: str) -> tuple[Channel, Channel]:
        accepted: list[Channel] = []

        async def serve() -> None:
            accepted.append(await listener.accept())
            await accepted[0].handshake()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            ours = await aipc.open_channel(url, ssl_context=contexts()[1], send_buffer=200_000)
        return ours, accepted[0]

    async def test_end_amid_a_long_message_is_every_waiters(self, place: Path) -> None:
        """One task reads close_notify; TCP's own end need not follow, to wake those who wait in the kernel."""
        async with patience(), CHANNELS["tls"](place).open_pair() as (sender, receiver):

            async def expect_error() -> None:
                with pytest.raises(aipc.ProtocolError):
                    await receiver.receive()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_error)
                await settle()
                assert sender._push(b"\0\3\0\0" + bytes(8_000)) == 8_004
                sender._end_writing()
                with pytest.raises(aipc.ProtocolError):
                    receive_at_once(receiver)

    async def test_reset(self) -> None:
        def talk(plain: socket.socket) -> None:
            client = secured(plain)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            client.close()

        async with listening() as (listener, _), anyio.create_task_group() as tasks:
            with plain_client(listener) as plain:
                tasks.start_soon(in_thread, talk, plain)
                async with await listener.accept() as channel:
                    with pytest.raises(anyio.BrokenResourceError):
                        await channel.receive()


async def test_cancelled_batch_is_sent_wholly_or_not_at_all(place: Path) -> None:
    """An encrypted message can't be taken back from behind another one; what `statistics` says is what arrives."""
    async with patience(), CHANNELS["tls"](place).open_pair() as (sender, receiver):
        for attempt in range(100):
            before = sender.statistics().messages_sent
            batch = [b"%04d" % number * 250 for number in range(200)]
            got: list[bytes] = []

            def suspended(number: int, parked: bool, got: list[bytes] = got) -> None:
                with suppress(anyio.WouldBlock):
                    while parked:
                        got.append(receiver.receive_nowait())

            outcome = await inject(sender.send_many(batch), attempt % 7, Moment.AWAIT, suspended)
            sent = sender.statistics().messages_sent - before
            assert outcome is CANCELLED or sent == len(batch)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send, b"end")
                while not got or got[-1] != b"end":
                    got.append(await receiver.receive())
            assert got[:-1] == batch[:sent]


async def test_cancelled_opening_leaves_nothing() -> None:
    async def hold(channel: Channel) -> None:
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await channel.receive()

    async def open_channel(url: str) -> Channel:
        return await aipc.open_channel(url, ssl_context=contexts()[1])

    async with listening() as (listener, url), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hold)
        outcomes = set()
        for at in range(200):
            outcome = await inject(open_channel(url), at)
            outcomes.add(outcome is CANCELLED)
            if outcome is not CANCELLED:
                await outcome.aclose()
                break
        assert outcomes == {True, False}
        await listener.drain()


async def test_two_tasks_make_the_handshake(place: Path) -> None:
    """One that receives and one that sends, at once."""
    async with listening() as (listener, url), anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def serve() -> None:
            async with await listener.accept() as channel:

                async def receive() -> None:
                    got.append(await channel.receive())

                async with anyio.create_task_group() as both:
                    both.start_soon(receive)
                    await settle()
                    both.start_soon(channel.send, b"from the server")

        tasks.start_soon(serve)
        async with aipc.open_channel(url, ssl_context=contexts()[1]) as channel:
            await channel.send(b"from the client")
            assert await channel.receive() == b"from the server"
    assert got == [b"from the client"]
