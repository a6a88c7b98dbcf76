"""A service on a server: any number of processes listen under a name, and each connection goes to one of them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import anyio

from aipc._address import Address, Secret
from aipc._io import fork
from aipc._io.loop.connection_tasks import ConnectionTasks, connection_tasks
from aipc._texts.shown import Fact, counted, shown, usable
from aipc.abc import Listener, ListenerStatistics
from aipc.transports.common_options import MISSING_OR_REFUSED, can_wait
from aipc.wire.framing import MAX_MESSAGE_SIZE

from .calls import RemoteConnectionChannel
from .channel import RemoteJobChannel
from .errors import NotReady
from .links import registry
from .links.link import Link
from .queue import JobQueue
from .server import Place, place

if TYPE_CHECKING:
    import ssl

_LEASE = 5.0
"""Seconds after which a connection that an instance took and did not accept, because it died, goes to another one."""


class RemoteListener(Listener[RemoteConnectionChannel]):
    """Accepts connections from a queue that it shares with all who listen under that name."""

    def __init__(self, link: Link, where: Place, limit: int, max_connections: int | None) -> None:
        self._link = link
        self._place = where
        self._limit = limit
        self._most = math.inf if max_connections is None else max_connections
        self._waiting = _waiting(link, where)
        self._tasks: set[ConnectionTasks[RemoteConnectionChannel]] = set()
        self._closed = False
        self._draining = False
        self._accepted = self._failed = 0

    async def accept(self) -> RemoteConnectionChannel:
        while True:
            channel: RemoteConnectionChannel | None = None
            try:
                async with self._waiting.lease() as job:
                    link = registry.join(self._place.server)
                    channel = RemoteConnectionChannel(link, self._place, job.data.decode(), "server", self._limit)
                    there = await channel.begin()
            except BaseException:
                if channel is not None:
                    channel.close()
                raise
            if there:
                self._accepted += 1
                return channel
            self._failed += 1
            channel.close()  # its client gave up

    async def serve(self, handler: Callable[[RemoteConnectionChannel], Awaitable[object]]) -> None:
        tasks: ConnectionTasks[RemoteConnectionChannel] = connection_tasks(handler, self._most)
        self._tasks.add(tasks)
        try:
            await tasks.serve(self._next)
        finally:
            self._tasks.discard(tasks)
            tasks.mark_closed()

    async def _next(self) -> RemoteConnectionChannel | None:
        try:
            return await self.accept()
        except anyio.ClosedResourceError:
            if self._draining:
                return None
            raise

    async def drain(self) -> None:
        self._draining = True
        running = tuple(self._tasks)
        await self.aclose()
        try:
            for tasks in running:
                tasks.drain_handler()
            for tasks in running:
                await tasks.wait_closed()
        except BaseException:
            for tasks in running:
                tasks.cancel()
            raise

    async def aclose(self) -> None:
        if not self._closed and self._waiting._generation == fork.generation:
            self._closed = True
            await self._waiting.aclose()
            for tasks in self._tasks:
                tasks.stop_accepting()

    @property
    def connections(self) -> int:
        """The number of connections that `serve` handles now."""
        return sum(tasks.running for tasks in self._tasks)

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(self._accepted, self.connections, self._failed)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._place.url
        yield usable(self._closed, self._waiting._generation)
        yield "draining" if self._draining and not self._closed else ""
        yield counted(self.connections, "connection")


def _waiting(link: Link, where: Place) -> RemoteJobChannel:
    """The queue of the connections that nobody accepted yet."""
    return RemoteJobChannel(link, where.within("calls"), lease=_LEASE, max_messages=0, max_attempts=0, history=0, limit=1000)


async def listen(
    address: Address,
    *,
    db: int | None = None,
    name: str | None = None,
    max_connections: int | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemoteListener:
    """Listen under a name on a server, beside any number of other processes."""
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    return RemoteListener(await _join(where), where, max_message_size, max_connections)


@can_wait(*MISSING_OR_REFUSED, NotReady)
async def connect(
    address: Address,
    *,
    db: int | None = None,
    name: str | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemoteConnectionChannel:
    """Connect to whoever listens under a name; what is sent before somebody accepts, waits on the server."""
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    link = await _join(where)
    number = f"{link.name}.{link.number()}"
    channel = RemoteConnectionChannel(link, where, number, "client", max_message_size)
    try:
        await channel.begin()
        queue = JobQueue(link, where.within("calls"))
        await link.ask(queue.send([(1, number.encode())], 0, 0.0, waits=False))
    except BaseException:
        channel.close()
        raise
    return channel


async def _join(where: Place) -> Link:
    with registry.joined(where.server) as link:
        await link.ask(JobQueue(link, where.within("calls")).stat(), patient=False)
    return link
