"""Accepting connections: the common base of Unix, TCP and TLS listeners."""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import monotonic
from typing import Any

import anyio.abc

from aipc._io import fork
from aipc._io.handle import ListenerHandle
from aipc._io.loop.connection_tasks import ConnectionTasks, connection_tasks
from aipc._texts.shown import Fact, counted, parked, shown, state
from aipc.abc import ChannelAttribute, Listener, ListenerStatistics

from .base import TransportChannel

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

_logger = logging.getLogger("aipc")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE = frozenset({errno.ECONNABORTED, errno.EPERM, errno.ENETDOWN, errno.EPROTO, errno.ENOPROTOOPT, errno.EHOSTDOWN})
_GONE |= {errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH}
"""Errors of a connection that accept(2) reports, and of a firewall: it is gone, and the next one may be good."""
_NOBODY = frozenset({errno.EAGAIN, errno.EINVAL})  # EINVAL: after shutdown(2)
_PATIENCE = 0.1  # seconds
_TELLS_AGAIN = 60.0  # seconds from one warning to the next
_MOST_GONE = 100  # in a row: more may be the listener's own error, and must not block the loop

LONGEST_BACKLOG = 0x7FFFFFFF
"""The largest value for listen(2); the kernel limits it anyway (net.core.somaxconn)."""

Accepted = TypeVar("Accepted")
TransportT_co = TypeVar("TransportT_co", bound=TransportChannel, default=TransportChannel, covariant=True)


class _NotNow(Exception):
    """accept(2) failed for a reason that may pass: its errno, if that is a lack of descriptors or memory."""


class SocketListener(Listener[TransportT_co]):
    """A listening socket. `wrap` makes a channel of each connection; `forget` runs once, before the socket is closed.

    `shared`: other processes accept from it, too, and take what is left in its backlog.

    A `serve` runs at most `max_connections` handlers at once. Meanwhile further connections wait in the kernel's backlog.
    """

    def __init__(
        self,
        handle: ListenerHandle,
        wrap: Callable[[socket.socket], TransportT_co],
        forget: Callable[[], None] = lambda: None,
        *,
        max_connections: int | None = None,
        shared: bool = False,
    ) -> None:
        self._handle = handle
        self._wrap = wrap
        self._forget = forget
        self._limit = math.inf if max_connections is None else max_connections
        self._crews: set[ConnectionTasks[TransportT_co]] = set()
        self._draining = False
        self._shared = shared
        self._accepted = self._failed = 0
        self._spins = True
        self._told = -math.inf

    def never_spin(self) -> None:
        """Park at once in each wait, and so do the channels accepted from now on."""
        self._spins = self._handle.readable.spins = False

    async def accept(self) -> TransportT_co:
        return await self._patiently(self._accept)

    async def _patiently(self, accept: Callable[[], Accepted]) -> Accepted:
        while True:
            try:
                return await self._handle.readable.attempt(accept)
            except _NotNow as lack:
                self._tell(*lack.args)
                await anyio.sleep(_PATIENCE)  # no event tells when a descriptor is closed

    def _tell(self, number: int = 0) -> None:
        """Warn that clients wait because something is lacking, now and then."""
        if not number or monotonic() - self._told < _TELLS_AGAIN:
            return
        self._told = monotonic()
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        hint = f": this process may have {most:,} descriptors (RLIMIT_NOFILE, ulimit -n)" if number == errno.EMFILE else ""
        _logger.warning(
            "%s: can't accept, so clients wait: %s%s; it tries again every %g s",
            self._handle.name,
            os.strerror(number),
            hint,
            _PATIENCE,
        )

    def _accept(self) -> TransportT_co:
        for _ in range(_MOST_GONE):
            connection = self._connection()
            if connection is None:
                self._failed += 1
                continue
            try:
                accepted = self._wrap(connection)
            except ConnectionError:
                connection.close()  # the peer is gone: options cannot be set
                self._failed += 1
                continue
            except BaseException:
                connection.close()
                raise
            self._accepted += 1
            if not self._spins:
                accepted.never_spin()
            if _logger.isEnabledFor(logging.DEBUG):
                _logger.debug("%s: accepted", repr(accepted))  # its state now
            return accepted
        raise _NotNow

    def _connection(self) -> socket.socket | None:
        """Call accept(2) once; None if the connection was gone by then."""
        try:
            return self._handle.sock.accept()[0]
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise _NotNow(error.errno) from None
            if error.errno in _GONE:
                return None
            raise

    async def serve(self, handler: Callable[[TransportT_co], Awaitable[object]]) -> None:
        tasks: ConnectionTasks[TransportT_co] = connection_tasks(handler, self._limit)
        self._crews.add(tasks)
        try:
            await tasks.serve(self._next)
        finally:
            self._crews.discard(tasks)
            tasks.mark_closed()

    async def _next(self) -> TransportT_co | None:
        accepted = await self._patiently(self._accept_or_end)
        if accepted is None:
            await self.aclose()
        return accepted

    def _accept_or_end(self) -> TransportT_co | None:
        if not self._draining:
            return self._accept()
        if self._handle.closed or self._shared:
            return None
        try:
            return self._accept()  # backlogged clients are already connected
        except OSError as error:
            if error.errno not in _NOBODY:
                raise
            return None

    async def drain(self) -> None:
        fork.check(self._handle.generation, self._handle.name)  # shutdown(2) would affect its parent, too
        self._draining = True
        crews = tuple(self._crews)
        if not crews or self._handle.closed:
            await self.aclose()
        else:
            self._refuse()
        try:
            for tasks in crews:
                tasks.drain_handler()
            for tasks in crews:
                await tasks.wait_closed()
        except BaseException:
            await self.aclose()
            for tasks in crews:
                tasks.cancel()
            raise

    def _refuse(self) -> None:
        """Refuse new connections where the kernel can (unix(7)), and let `serve` accept those in the backlog."""
        if self._handle.sock.family == socket.AF_UNIX and not self._shared:
            self._handle.sock.shutdown(socket.SHUT_RD)
        self._handle.readable.wake_all()

    async def aclose(self) -> None:
        if not (self._handle.closed or self._handle.forked):
            self._forget()
        self._handle.close()
        for tasks in self._crews:
            tasks.stop_accepting()

    @property
    def connections(self) -> int:
        """The number of connections that `serve` handles now."""
        return sum(tasks.running for tasks in self._crews)

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(self._accepted, self.connections, self._failed)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            anyio.abc.SocketAttribute.raw_socket: lambda: self._handle.ask(lambda sock: sock),
            anyio.abc.SocketAttribute.family: lambda: self._handle.ask(lambda sock: sock.family),
            anyio.abc.SocketAttribute.local_address: lambda: self._handle.ask(socket.socket.getsockname),
        }

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._handle.name
        yield state(self._handle)
        yield "draining" if self._draining and not self._handle.closed else ""
        yield counted(self.connections, "connection")
        yield parked(self._handle.readable, "to accept")
