"""Serving within limits: of connections, of descriptors, and of the time that is left when a server has to end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import pytest

import aipc
from aipc.abc import Channel, Listener
from aipc.testing.expect import settle, until

from ...conftest import LOOPS
from ...peers import python, said, tell

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(place: Path) -> str:
    return f"unix:{place}/socket"


class Handlers:
    """Handlers that greet, and then run until their peer says a word, or ends."""

    def __init__(self) -> None:
        self.running = self.most = self.ended = self.cancelled = 0

    async def __call__(self, channel: Channel) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await channel.send(b"inside")
            with suppress(anyio.EndOfStream):
                await channel.send(await channel.receive())
            self.ended += 1
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await settle()  # it may clean up
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


class Serving:
    """A `serve` in a task of its own."""

    def __init__(self, listener: Listener, handlers: Handlers) -> None:
        self.listener = listener
        self.handlers = handlers
        self.returned = anyio.Event()

    async def run(self) -> None:
        await self.listener.serve(self.handlers)
        self.returned.set()


@asynccontextmanager
async def serving(url: str, max_connections: int | None = None) -> AsyncIterator[Serving]:
    options = {} if max_connections is None else {"max_connections": max_connections}
    with anyio.fail_after(10):
        async with aipc.listen(url, **options) as listener, anyio.create_task_group() as tasks:
            running = Serving(listener, Handlers())
            tasks.start_soon(running.run)
            yield running
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[Channel]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(aipc.open_channel(url)) for _ in range(count)]


async def test_no_more_connections_than_the_limit(url: str) -> None:
    """The others wait in the kernel's backlog, and each has its turn when one ends."""
    async with serving(url, max_connections=3) as server, clients(url, 10) as channels:
        greeted = 0

        async def talk(channel: Channel) -> None:
            nonlocal greeted
            assert await channel.receive() == b"inside"
            greeted += 1
            await until(lambda: greeted >= 3)  # all that may be inside are
            await channel.send(b"word")
            assert await channel.receive() == b"word"

        async with anyio.create_task_group() as tasks:
            for channel in channels:
                tasks.start_soon(talk, channel)
        assert server.handlers.most == 3
        assert server.handlers.ended == 10
        await until(lambda: not server.listener.connections)
        assert server.listener.statistics() == aipc.ListenerStatistics(accepted=10, connections=0, failed=0)


async def test_limit_keeps_a_connection_waiting(url: str) -> None:
    async with serving(url, max_connections=1) as server, clients(url, 2) as (first, second):
        assert await first.receive() == b"inside"
        assert server.listener.statistics() == aipc.ListenerStatistics(accepted=1, connections=1, failed=0)
        with anyio.move_on_after(0.05) as scope:
            await second.receive()
        assert scope.cancelled_caught
        await first.aclose()
        assert await second.receive() == b"inside"


@pytest.mark.parametrize("bad", [0, -1, "many"])
async def test_bad_limit(bad: object, url: str) -> None:
    with pytest.raises(aipc.AddressError, match="max_connections"):
        await aipc.listen(url, max_connections=bad)


async def test_closing_at_the_limit_ends_serve(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(url, max_connections=1) as listener, anyio.create_task_group() as tasks:
            handlers = Handlers()

            async def serve() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await listener.serve(handlers)

            tasks.start_soon(serve)
            async with aipc.open_channel(url) as channel:
                assert await channel.receive() == b"inside"
                await listener.aclose()
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
    assert handlers.cancelled == 1


@pytest.mark.parametrize("limit", [None, 2])
async def test_drain_lets_handlers_end(limit: int | None, url: str) -> None:
    """It refuses newcomers, waits for those inside, and `serve` returns as if it had been meant to end."""
    async with serving(url, limit) as server, clients(url, 2) as channels:
        assert [await channel.receive() for channel in channels] == [b"inside", b"inside"]
        drained = anyio.Event()

        async def drain() -> None:
            await server.listener.drain()
            drained.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            await settle()
            with pytest.raises((aipc.ObjectMissing, aipc.NobodyListens)):
                await aipc.open_channel(url)
            for number, channel in enumerate(channels):
                assert not drained.is_set()
                await channel.send(b"%d" % number)
                assert await channel.receive() == b"%d" % number
            await drained.wait()
        await server.returned.wait()
        assert (server.handlers.ended, server.handlers.cancelled) == (2, 0)


async def test_drain_cancelled_by_a_timeout_ends_the_rest(url: str) -> None:
    """They may clean up; `serve` returns, and raises nothing."""
    async with serving(url) as server, clients(url, 3) as channels:
        assert [await channel.receive() for channel in channels] == [b"inside"] * 3
        async with anyio.create_task_group() as tasks:

            async def drain() -> None:
                with anyio.move_on_after(0.05) as scope:
                    await server.listener.drain()
                assert scope.cancelled_caught

            tasks.start_soon(drain)
            await channels[0].send(b"in time")
            assert await channels[0].receive() == b"in time"
        await server.returned.wait()
        assert (server.handlers.ended, server.handlers.cancelled) == (1, 2)


async def test_drain_without_connections(url: str) -> None:
    async with serving(url) as server:
        await settle()
        await server.listener.drain()
        await server.returned.wait()
        await server.listener.drain()
        await server.listener.aclose()


async def test_serve_after_drain_returns(url: str) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener:
            await listener.drain()
            await listener.serve(Handlers())
            with pytest.raises(anyio.ClosedResourceError):
                await listener.accept()


async def test_drain_ends_every_serve(url: str) -> None:
    async with serving(url) as server, clients(url, 2) as channels:
        async with anyio.create_task_group() as tasks:
            other = Serving(server.listener, server.handlers)
            tasks.start_soon(other.run)
            assert [await channel.receive() for channel in channels] == [b"inside"] * 2
            tasks.start_soon(server.listener.drain)
            for channel in channels:
                await channel.send(b"bye")
        await server.returned.wait()
        await other.returned.wait()
        assert server.handlers.ended == 2


EXHAUSTED = """
import os, resource, sys
from contextlib import suppress
import anyio, aipc
from aipc.testing.expect import settle

async def echo(channel):
    await channel.send(await channel.receive())

async def read_line():
    return await anyio.to_thread.run_sync(sys.stdin.readline)

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    async with aipc.listen(sys.argv[2], framing="lines") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        await settle()
        fillers = []
        with suppress(OSError):
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        print("full", flush=True)
        await read_line()  # the peers are connected
        before = resource.getrusage(resource.RUSAGE_SELF)
        await anyio.sleep(2)
        after = resource.getrusage(resource.RUSAGE_SELF)
        print((after.ru_nvcsw - before.ru_nvcsw) / 2, flush=True)
        for filler in fillers[1:]:
            os.close(filler)
        await read_line()
        tasks.cancel_scope.cancel()

backend, options = eval(sys.argv[1])
anyio.run(main, backend=backend, backend_options=options)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_no_descriptors_left(loop: str, place: Path) -> None:
    """With no descriptor to be had, a server rests: under 20 wake-ups a second. When there are some again, nobody was lost."""
    with python(EXHAUSTED, repr(LOOPS[loop]), f"unix:{place}/socket") as server:
        assert said(server) == "full"
        peers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        try:
            for number, peer in enumerate(peers):
                peer.settimeout(20)
                peer.connect(f"{place}/socket")
                peer.sendall(b"%d\n" % number)
            tell(server, "connected")
            wakeups = float(said(server))
            assert 0 < wakeups < 20
            assert [peer.recv(100) for peer in peers] == [b"%d\n" % number for number in range(20)]
        finally:
            for peer in peers:
                peer.close()
        tell(server, "enough")
        assert server.wait(20) == 0
