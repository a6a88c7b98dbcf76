"""TLS when something goes wrong: errors of the socket, ends at the wrong moment, a peer that does not read."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSAttribute

import aipc
from aipc import ChannelAttribute
from aipc.abc import Channel
from aipc.testing.expect import settle, until

from ...internet import TlsByHand, plain_client
from ...internet import tls_listening as listening
from ...io.test_waiting import RUNNERS
from ...io.waiters import loop_of
from ...seccomp import judged
from .test_tls_ends import pair

pytestmark = pytest.mark.anyio


class Refusals:
    """Refuses some send(2)s of one channel: from the moment that it is known, each third one, or the third one only."""

    def __init__(self, code: int, *, once: bool) -> None:
        self._code = code
        self._once = once
        self._calls = 0
        self.descriptor = -1

    def __call__(self, _: str, descriptor: int) -> int:
        self._calls += descriptor == self.descriptor
        refused = self._calls == 3 if self._once else self._calls % 3 == 0
        return self._code if descriptor == self.descriptor and refused else 0


async def talk(refusals: Refusals) -> tuple[list[object], int, int]:
    """Send 40 messages: what comes, how many messages count as sent, how many sends fail."""
    got: list[object] = []
    failed = 0

    async def receive(channel: Channel) -> None:
        try:
            async for message in channel:
                got.append(int(message))
        except aipc.ProtocolError:
            got.append("cut short")

    async with listening() as (listener, url), pair(listener, url) as (sender, receiver), anyio.create_task_group() as tasks:
        tasks.start_soon(receive, receiver)
        refusals.descriptor = sender.extra(ChannelAttribute.descriptor)
        for number in range(40):
            try:
                await sender.send(b"%d" % number)
            except anyio.BrokenResourceError:
                failed += 1
        sent = sender.statistics().messages_sent
        refusals.descriptor = -1
        await sender.aclose()
    return got, sent, failed


@pytest.fixture
def runner(anyio_backend: tuple[str, dict[str, bool]]) -> Callable[..., Any]:
    return RUNNERS[loop_of(anyio_backend)]


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM])
def test_passing_error_of_the_socket_repeats_nothing(runner: Callable[..., Any], code: int) -> None:
    """What was encrypted goes out with the next try, and is not encrypted again."""
    refusals = Refusals(code, once=False)
    outcome = judged(("sendto",), refusals, lambda: runner(lambda: talk(refusals)))
    assert outcome == ([*range(40)], 40, 0)


def test_lasting_error_of_the_socket_stays(runner: Callable[..., Any]) -> None:
    """Here the socket would take later messages; but they would come after a message that is missing."""
    refusals = Refusals(errno.ECONNRESET, once=True)
    outcome = judged(("sendto",), refusals, lambda: runner(lambda: talk(refusals)))
    assert outcome == ([0, 1, "cut short"], 3, 38)  # the third one had begun


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
