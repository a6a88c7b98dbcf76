"""How many calls a client has unanswered: a place is taken until the answer comes, and given back if nothing was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import aipc
from aipc import rpc
from aipc.abc import Channel
from aipc.services.rpc.wires.base import Request
from aipc.services.rpc.wires.msgpack_rpc import MessagePackWire
from aipc.testing import CANCELLED, Moment, inject

pytestmark = pytest.mark.anyio

wire = MessagePackWire()
LONG = bytes(400_000)


@asynccontextmanager
async def client_of(window: int) -> AsyncIterator[tuple[rpc.Client, Channel]]:
    """A client, and the other end of its connection, which has said how many calls it takes."""
    ours, theirs = aipc.channel_pair()
    with anyio.fail_after(20):
        async with theirs, rpc.connect(ours) as client:
            await theirs.send(wire.notification("$/window", (window,)))
            await theirs.receive()
            await anyio.wait_all_tasks_blocked()
            yield client, theirs


async def next_request(channel: Channel) -> Request:
    while True:
        (event,) = wire.feed(await channel.receive())
        if isinstance(event, Request):
            return event


async def test_a_cancelled_call_has_its_place_until_it_is_answered() -> None:
    async with client_of(1) as (client, peer), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when, scope, peer)
            await client.call("first")
        tasks.start_soon(client.call, "second")
        await anyio.wait_all_tasks_blocked()
        assert [event.method for event in await waiting(peer)] == ["$/cancelRequest"]
        await peer.send(wire.answer(0, None))
        request = await next_request(peer)
        assert request.method == "second"
        await peer.send(wire.answer(request.id, None))


async def cancel_when(scope: anyio.CancelScope, peer: Channel) -> None:
    assert (await next_request(peer)).method == "first"
    scope.cancel()


async def waiting(channel: Channel) -> list[Request]:
    events = []
    try:
        while True:
            events += wire.feed(channel.receive_nowait())
    except anyio.WouldBlock:
        return [event for event in events if event.method != "$/request"]


async def test_a_call_that_was_not_sent_gives_its_place_back() -> None:
    async with client_of(3) as (client, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, "first", LONG)
        await anyio.wait_all_tasks_blocked()  # its message fills the socket
        scopes = []
        for name in ("second", "third"):
            scope = anyio.CancelScope(shield=True)  # from the test's deadline, which would go first, in a message of its own
            scopes.append(scope)
            tasks.start_soon(call_in, scope, client, name)
        await anyio.wait_all_tasks_blocked()
        for scope in scopes:
            scope.cancel()
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(client.call, "fourth")
        tasks.start_soon(client.call, "fifth")
        requests = [await next_request(peer) for _ in range(3)]
        assert {request.method for request in requests} == {"first", "fourth", "fifth"}
        for request in requests:
            await peer.send(wire.answer(request.id, None))


async def call_in(scope: anyio.CancelScope, client: rpc.Client, name: str) -> None:
    with scope:
        await client.call(name)


async def test_a_place_passes_on_from_a_call_that_is_cancelled_as_it_gets_it() -> None:
    async with client_of(1) as (client, peer):
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call, "holder")
                request = await next_request(peer)

                async def cancelled() -> None:
                    assert await inject(client.call("cancelled"), 0, Moment.READINESS) is CANCELLED

                tasks.start_soon(cancelled)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(client.call, "next")
                await anyio.wait_all_tasks_blocked()
                await peer.send(wire.answer(request.id, None))
                request = await next_request(peer)
                assert request.method == "next"
                await peer.send(wire.answer(request.id, None))
