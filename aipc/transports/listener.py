"""Accepting connections: what Unix, TCP and TLS listeners share."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio.abc

from aipc._io.crew import Crew, crew
from aipc._io.handle import ListenerHandle
from aipc.abc import Channel, ChannelAttribute, Listener

from .base import TransportChannel

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PATIENCE = 0.1  # seconds

Accepted = TypeVar("Accepted")


class SocketListener(Listener):
    """A listening socket; `wrap` makes a channel of each connection; `forget` runs once, before it is closed.

    A `serve` runs at most `max_connections` handlers at once. While so many run, further connections wait in the kernel's
    backlog.
    """

    def __init__(
        self,
        handle: ListenerHandle,
        wrap: Callable[[socket.socket], TransportChannel],
        forget: Callable[[], None] = lambda: None,
        *,
        max_connections: int | None = None,
    ) -> None:
        self._handle = handle
        self._wrap = wrap
        self._forget = forget
        self._limit = math.inf if max_connections is None else max_connections
        self._crews: set[Crew[TransportChannel]] = set()
        self._draining = False

    async def accept(self) -> TransportChannel:
        return await self._patiently(self._accept)

    async def _patiently(self, accept: Callable[[], Accepted]) -> Accepted:
        while True:
            try:
                return await self._handle.readable.attempt(accept)
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
            await anyio.sleep(_PATIENCE)  # nothing tells when somebody closes a descriptor

    def _accept(self) -> TransportChannel:
        while True:
            try:
                connection, _ = self._handle.sock.accept()
            except ConnectionAbortedError:
                continue  # it was gone before we looked (accept(2))
            return self._wrap(connection)

    async def serve(self, handler: Callable[[Channel], Awaitable[object]]) -> None:
        tasks: Crew[TransportChannel] = crew(handler, self._limit)
        self._crews.add(tasks)
        try:
            await tasks.serve(self._next)
        finally:
            self._crews.discard(tasks)

    async def _next(self) -> TransportChannel | None:
        return await self._patiently(self._accept_or_end)

    def _accept_or_end(self) -> TransportChannel | None:
        return None if self._draining else self._accept()

    async def drain(self) -> None:
        self._draining = True
        await self.aclose()
        crews = tuple(self._crews)
        try:
            for tasks in crews:
                await tasks.ended()
        except BaseException:
            for tasks in crews:
                tasks.cancel()
            raise

    async def aclose(self) -> None:
        if not (self._handle.closed or self._handle.forked):
            self._forget()
        self._handle.close()
        for tasks in self._crews:
            tasks.admit_no_more()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            anyio.abc.SocketAttribute.raw_socket: lambda: self._handle.sock,
            anyio.abc.SocketAttribute.family: lambda: self._handle.sock.family,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name}>"
