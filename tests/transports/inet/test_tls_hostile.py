"""What a hostile TLS peer sends: it ends its own channel, by a named error, with nothing changed or made up before that."""

from __future__ import annotations

import _ssl
import ctypes
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import settle

from ...internet import CERTIFICATE, TlsByHand, in_thread, plain_client, port_of
from ...internet import tls_listening as listening
from ...peers import process, require, tell

pytestmark = pytest.mark.anyio

CONNECTIONS = 60
MESSAGES = [b"%d" % number * 100 for number in range(20)]


class Hostile:
    """A client whose words are changed on their way, as the seed has it: `changed`, and how it ends, by `said_end`."""

    def __init__(self, client: TlsByHand, seed: int) -> None:
        self._random = random.Random(seed)
        self._client = client
        self._amiss_in = self._random.choice(["hello", "last words", "records", "records", "records", "nothing"])
        self.changed = self._amiss_in != "nothing"
        self.said_end = False

    async def talk(self) -> None:
        """All that it has to say, unless the beginning was amiss."""
        client = self._client
        while not client.handshake_step():
            self._say("hello")
            if self._amiss_in == "hello":
                return
            await client.hear()
        self._say("last words")
        for message in MESSAGES:
            client.ssl.write(len(message).to_bytes(4, "big") + message)
        self.said_end = self._random.random() < 0.5
        if self.said_end:
            with suppress(ssl.SSLError):
                client.ssl.unwrap()
        self._say("records")

    def _say(self, what: str) -> None:
        data = self._client.outgoing.read()
        if what == self._amiss_in:
            data = self._mutated(data)
        with suppress(ConnectionError):  # the last words may have ended it
            self._client.plain.sendall(data)

    def _mutated(self, data: bytes) -> bytes:
        at, to = sorted(self._random.sample(range(len(data)), 2))
        garbage = self._random.randbytes(self._random.randrange(1, 3_000))
        return self._random.choice(
            [
                data[:at],  # cut short
                data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :],
                data[:at] + data[to:],
                data[:to] + data[at:to] + data[to:],  # twice
                data[:at] + garbage + data[at:],
                garbage,
            ]
        )

    def end(self) -> None:
        plain = self._client.plain
        if self._random.random() < 0.3:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        plain.close()


async def test_changed_on_the_way() -> None:
    """Bytes that are lost, doubled, changed or added, in the handshake or behind it; the end by TLS, by TCP, or by a reset."""
    async with listening(max_message_size=10_000, send_buffer=4096) as (listener, _):
        for seed in range(CONNECTIONS):
            with plain_client(listener) as plain:
                hostile = Hostile(TlsByHand(plain), seed)
                async with await listener.accept() as channel:
                    received, ends = await meet(channel, hostile)
            assert received == MESSAGES[: len(received)], f"seed {seed}"
            for end in ends:
                clean = hostile.said_end and not hostile.changed
                assert isinstance(end, anyio.EndOfStream if clean else anyio.BrokenResourceError), f"seed {seed}: {end!r}"


async def meet(channel: Channel, hostile: Hostile) -> tuple[list[bytes], list[Exception]]:
    """What two receivers get together, and how it ends for each. A sender is in the way of nobody, and ends, too."""
    received: list[bytes] = []
    ends: list[Exception] = []

    async def receive() -> None:
        try:
            while True:
                received.append(await channel.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
            ends.append(error)

    async def send() -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await send_for_ever(channel, bytes(10_000))

    async with anyio.create_task_group() as tasks:
        for task in (receive, receive, send):
            tasks.start_soon(task)
        await hostile.talk()
        await settle()
        hostile.end()
    return received, ends


async def send_for_ever(channel: Channel, message: bytes) -> None:
    while True:
        await channel.send(message)
        await anyio.sleep(0.001)


class KeyChanger:
    """A client that can ask for new keys, which Python's `ssl` can't: OpenSSL itself, on memory (SSL_key_update(3))."""

    def __init__(self) -> None:
        self._lib = lib = ctypes.CDLL(_ssl.__file__)
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_new", "BIO_s_mem"):
            getattr(lib, name).restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method())))
        self._ssl = ctypes.c_void_p(lib.SSL_new(self._context))
        self._in, self._out = (ctypes.c_void_p(lib.BIO_new(ctypes.c_void_p(lib.BIO_s_mem()))) for _ in range(2))
        lib.SSL_set_bio(self._ssl, self._in, self._out)
        lib.SSL_set_connect_state(self._ssl)

    async def handshake(self, plain: socket.socket) -> None:
        while self._lib.SSL_do_handshake(self._ssl) != 1:
            plain.sendall(self._words())
            heard = await in_thread(plain.recv, 65536)
            self._lib.BIO_write(self._in, heard, len(heard))
        plain.sendall(self._words())

    def requests(self, number: int) -> bytes:
        """So many requests for new keys on both sides, each of which must be answered (RFC 8446, 4.6.3)."""
        records = []
        for _ in range(number):
            assert self._lib.SSL_key_update(self._ssl, 1) == 1
            assert self._lib.SSL_do_handshake(self._ssl) == 1
            records.append(self._words())
        return b"".join(records)

    def _words(self) -> bytes:
        space = ctypes.create_string_buffer(1 << 16)
        size = self._lib.BIO_read(self._out, space, len(space))
        return space.raw[: max(0, size)]

    def close(self) -> None:
        self._lib.SSL_free(self._ssl)
        self._lib.SSL_CTX_free(self._context)


@pytest.mark.costly
@pytest.mark.parametrize("sending", [False, True])
async def test_requests_without_end(sending: bool) -> None:
    """The answers that the peer does not read take memory: no more than so much."""
    client = KeyChanger()
    async with listening(send_buffer=4096) as (listener, _), anyio.create_task_group() as tasks:
        with plain_client(listener) as plain:
            async with await listener.accept() as channel:
                tasks.start_soon(client.handshake, plain)
                await channel.handshake()
                if sending:
                    tasks.start_soon(expect_closed, channel)

                async def ask() -> None:
                    with suppress(OSError):  # the channel's end, and then our own
                        for _ in range(100):
                            await in_thread(plain.sendall, client.requests(1_000))

                tasks.start_soon(ask)
                with pytest.raises(aipc.ProtocolError, match="one answer after another"):
                    await channel.receive()
    client.close()


async def expect_closed(channel: Channel) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await channel.send(bytes(1_000_000))


@asynccontextmanager
async def through_a_middle() -> AsyncIterator[tuple[Channel, subprocess.Popen[str], anyio.CancelScope]]:
    """An accepted TLS 1.2 channel, its client, which is openssl, and what stops the way back to that, when cancelled."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CERTIFICATE.configure_cert(server)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.options |= 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION, for which Python has no name
    way_back = anyio.CancelScope()

    async def forward(source: Channel, sink: Channel, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                await sink.send(await source.receive())

    async with (
        listening(ssl_context=server, framing="lines") as (listener, _),
        aipc.listen("tcp://127.0.0.1:0", framing="none") as middle,
        aipc.open_channel(f"tcp://127.0.0.1:{port_of(listener)}", framing="none") as onward,
        await listener.accept() as channel,
    ):
        connect = f"openssl s_client -connect 127.0.0.1:{port_of(middle)} -tls1_2 -brief 2>&1"
        with process("sh", "-c", f"exec {connect}") as client:
            async with await middle.accept() as back, anyio.create_task_group() as tasks:
                tasks.start_soon(forward, back, onward, anyio.CancelScope())
                tasks.start_soon(forward, onward, back, way_back)
                yield channel, client, way_back
                tasks.cancel_scope.cancel()


async def test_renegotiation_amid_messages() -> None:
    """While the peer has said only the first words of a new handshake, nothing can be encrypted; that stays so."""
    require("openssl")
    async with through_a_middle() as (channel, client, way_back):
        tell(client, "hello")
        assert await channel.receive() == b"hello"
        await channel.send(b"answer")
        way_back.cancel()
        tell(client, "R")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive)
            for _ in range(2):
                with pytest.raises(aipc.ProtocolError, match="renegotiate"):
                    await send_for_ever(channel, b"another answer")
            tasks.cancel_scope.cancel()
