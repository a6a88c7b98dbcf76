"""Accepting connections: what Unix and TCP listeners share."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable

import anyio

from aipc._io import crew
from aipc._io.handle import ListenerHandle
from aipc.abc import Channel, Listener

from .base import TransportChannel

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PATIENCE = 0.1  # seconds


class SocketListener(Listener):
    """A listening socket; `wrap` makes a channel of each connection; `forget` runs once, before it is closed."""

    def __init__(
        self,
        handle: ListenerHandle,
        wrap: Callable[[socket.socket], TransportChannel],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._handle = handle
        self._wrap = wrap
        self._forget = forget

    async def accept(self) -> TransportChannel:
        while True:
            try:
                return await self._handle.readable.attempt(self._accept)
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
            try:
                return self._wrap(connection)
            except ConnectionError:  # likewise
                connection.close()
            except BaseException:
                connection.close()
                raise

    async def serve(self, handler: Callable[[Channel], Awaitable[object]]) -> None:
        await crew.serve(self.accept, handler)

    async def aclose(self) -> None:
        if not (self._handle.closed or self._handle.forked):
            self._forget()
        self._handle.close()

    @property
    def descriptor(self) -> int:
        """The listening socket's descriptor, or -1."""
        return self._handle.fd

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name}>"
