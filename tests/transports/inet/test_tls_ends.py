"""Who may say that a TLS stream ended, and what is said behind a full socket."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

import aipc
from aipc.abc import Channel, Listener
from aipc.testing.expect import settle

from ...internet import AUTHORITY, TlsByHand, contexts, in_thread, port_of
from ...internet import tls_listening as listening
from ...io.test_waiting import LOOPS, RUNNERS

SMALL = {"send_buffer": 4096, "receive_buffer": 4096}


@asynccontextmanager
async def pair(listener: Listener, url: str, **options: object) -> AsyncIterator[tuple[Channel, Channel]]:
    """The connecting channel and the accepted one, after the handshake."""
    accepted: list[Channel] = []

    async def accept() -> None:
        accepted.append(await listener.accept())
        await accepted[0].handshake()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        ours = await aipc.open_channel(url, ssl_context=contexts()[1], **options)
    async with ours, accepted[0] as theirs:
        yield ours, theirs


async def drain(channel: Channel) -> int:
    """Receive to the end: how many bytes."""
    return sum([len(chunk) async for chunk in channel])


@pytest.mark.anyio
async def test_cut_short_is_an_error() -> None:
    """Chunks have no length, so that only the missing close_notify tells. Wherever the kernel stopped, also with some room left."""
    async with listening(framing="none", **SMALL) as (listener, url):
        for chunks in range(25):
            async with pair(listener, url, framing="none", send_buffer=65_536) as (sender, receiver):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sender.send, bytes(1_000_000))
                    for _ in range(chunks):
                        await receiver.receive()
                    await settle()
                    tasks.cancel_scope.cancel()
                await sender.aclose()
                with pytest.raises(aipc.ProtocolError, match="without close_notify"):
                    await drain(receiver)


@pytest.mark.anyio
async def test_closing_amid_a_message_loses_none_before_it() -> None:
    """The server's tickets are unread: a socket that is closed like that is reset, and drops what it was to send."""
    async with listening(**SMALL) as (listener, url), pair(listener, url, send_buffer=100_000) as (sender, receiver):
        sent = [bytes(10_000)] * 3
        await sender.send_many(sent)
        with anyio.move_on_after(0):
            await sender.send(bytes(1_000_000))
        assert sender.statistics().messages_sent == 4
        await sender.aclose()
        assert [await receiver.receive() for _ in sent] == sent
        with pytest.raises(aipc.ProtocolError):
            await receiver.receive()


@pytest.mark.anyio
async def test_end_waits_for_room() -> None:
    """`send_eof` returns when the kernel has close_notify, also if the message before it just fits: closing then takes nothing away."""
    async with listening(framing="none", **SMALL) as (listener, url):
        for size in range(6_600, 8_200, 200):
            async with pair(listener, url, framing="none", **SMALL) as (sender, receiver):

                async def speak(sender: Channel = sender, size: int = size) -> None:
                    await sender.send(bytes(size))
                    await sender.send_eof()
                    await sender.aclose()

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(speak)
                    await settle()
                    assert await drain(receiver) == size


@asynccontextmanager
async def deaf_client() -> AsyncIterator[tuple[Channel, TlsByHand]]:
    """An accepted channel with more to say in the handshake than its socket takes, and then again: a long certificate, tickets."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost", *(f"host-{number}.example.org" for number in range(500))).configure_cert(server)
    server.num_tickets = 100
    async with aipc.listen("tls://127.0.0.1:0", ssl_context=server, send_buffer=4096) as listener:
        plain = socket.socket()
        plain.settimeout(10)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", port_of(listener)))
        yield await listener.accept(), TlsByHand(plain)


@pytest.mark.anyio
async def test_says_in_the_background_as_often_as_need_be() -> None:
    """A channel that only receives."""
    async with deaf_client() as (channel, client), channel, anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        with client.plain:
            client.handshake_step()
            client.say()
            await settle()
            await client.handshake()
            await settle()
            tickets = b""
            for _ in range(100):
                tickets = await without_a_record(client.plain, tickets)
            tasks.cancel_scope.cancel()


async def without_a_record(plain: socket.socket, data: bytes) -> bytes:
    """What is left behind the first whole record (RFC 8446, 5.1), read if need be."""
    while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
        data += await in_thread(plain.recv, 65536)
    return data[5 + int.from_bytes(data[3:5], "big") :]


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_says_the_rest_in_the_next_loop(first: str, second: str) -> None:
    """A loop that is over takes its background with it, even before that began."""
    both: list[tuple[Channel, TlsByHand]] = []

    async def begin() -> None:
        async with deaf_client() as (channel, client):
            client.handshake_step()
            client.say()
            both.append((channel, client))
        while not select.select([client.plain], [], [], 0)[0]:
            with suppress(anyio.WouldBlock):
                channel.receive_nowait()

    async def go_on() -> None:
        async with both[0][0] as channel, anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive)
            with both[0][1].plain:
                await both[0][1].handshake()
            tasks.cancel_scope.cancel()

    RUNNERS[first](begin)
    RUNNERS[second](go_on)
