"""Connecting to and listening at internet addresses: what `tcp:` and `tls:` share.

Connecting is our own, and not `anyio.connect_tcp`: its socket belongs to a transport of the loop, which reads at once. A server
that speaks first would have spoken to the transport before the socket could be taken out of it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any

import anyio
from anyio.abc import SocketAttribute

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.handle import ListenerHandle, SocketHandle
from aipc.exceptions import AipcError

from ..listener import LONGEST_BACKLOG, SocketListener, TransportT_co
from ..socket_stream import SocketStreamChannel
from .address import Resolved, endpoint, resolve

STAGGER = 0.25
"""Seconds until the next address is tried beside the ones that have not answered (RFC 8305, section 5)."""

Prepare = Callable[[socket.socket], None]
"""Sets a new socket's options."""


def _attributes(ask: Callable[[Callable[[socket.socket], Any]], Any]) -> Mapping[Any, Callable[[], Any]]:
    """An IPv6 address as host and port, too, without flow and scope: as anyio has it."""
    return {
        SocketAttribute.local_address: lambda: ask(socket.socket.getsockname)[:2],
        SocketAttribute.local_port: lambda: ask(socket.socket.getsockname)[1],
        SocketAttribute.remote_address: lambda: ask(socket.socket.getpeername)[:2],
        SocketAttribute.remote_port: lambda: ask(socket.socket.getpeername)[1],
    }


class InetStreamChannel(SocketStreamChannel):
    """Messages over a connection between internet addresses."""

    __slots__ = ()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {**super().extra_attributes, **_attributes(self._asked)}


class InetListener(SocketListener[TransportT_co]):
    """Listens at an internet address: `extra(SocketAttribute.local_port)` is its port, which matters if 0 was asked for."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        known = _attributes(self._asked)
        local = (SocketAttribute.local_address, SocketAttribute.local_port)
        return {**super().extra_attributes, **{attribute: known[attribute] for attribute in local}}


async def bind(address: Address, prepare: Prepare, backlog: int) -> ListenerHandle:
    """A listening socket at the host's first address. `[::]` takes IPv4, too. ObjectExists if the port is taken.

    UnknownHost, AccessDenied (a port under 1,024); OSError (EADDRNOTAVAIL) for an address that this machine has not. Cancelled:
    nothing was made.
    """
    place = (await resolve(*endpoint(address), address.url))[0]
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # its last connections may linger in TIME_WAIT (tcp(7))
        if place.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(place.sockaddr)
        sock.listen(min(backlog, LONGEST_BACKLOG))
        return ListenerHandle(sock, address.url)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, AipcError):
            raise os_error(error.errno or 0, address.url, f"can't listen at {_text(place)}: {error.strerror}") from None
        raise


async def dial(address: Address, prepare: Prepare) -> SocketHandle:
    """Connect to one of the host's addresses: the first that answers, tried in turn, 0.25 s apart (RFC 8305).

    UnknownHost if the name has none; if all refuse, NobodyListens, or the OSError of the last one. Cancelled: not connected.
    """
    host, port = endpoint(address)
    if port == 0:
        raise address.error("port 0 is nobody's: only a listener can ask for it, and is given another")
    race = _Race(address.url, prepare)
    try:
        return await race.run(_interleaved(await resolve(host, port, address.url)))
    except BaseException:
        race.give_up()
        raise


def _interleaved(places: Iterable[Resolved]) -> list[Resolved]:
    """The families in turn, each in the resolver's order: a whole family may be out of reach (RFC 8305, section 4)."""
    families: dict[int, list[Resolved]] = {}
    for place in places:
        families.setdefault(place.family, []).append(place)
    return [place for place in chain.from_iterable(zip_longest(*families.values())) if place is not None]


class _Race:
    """Attempts to connect, each a task; the first that succeeds wins, and the others end without a trace."""

    def __init__(self, name: str, prepare: Prepare) -> None:
        self._name = name
        self._prepare = prepare
        self._winner: SocketHandle | None = None
        self._failures: list[tuple[Resolved, Exception]] = []

    async def run(self, places: Iterable[Resolved]) -> SocketHandle:
        async with anyio.create_task_group() as tasks:
            for place in places:
                over = anyio.Event()
                tasks.start_soon(self._try, place, over, tasks.cancel_scope)
                with anyio.move_on_after(STAGGER):
                    await over.wait()
        if self._winner is None:
            raise self._why()
        return self._winner

    def give_up(self) -> None:
        if self._winner is not None:
            self._winner.close()

    async def _try(self, place: Resolved, over: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            handle = self._open(place)
            try:
                code = await handle.writable.attempt(connect_step, handle.socket(), place.sockaddr)
                if code:
                    raise OSError(code, os.strerror(code))
                if self._winner is None:
                    self._winner = handle
                    scope.cancel()
            finally:
                if self._winner is not handle:
                    handle.close()
        except Exception as error:  # noqa: BLE001 - raised by `run`, by itself and not in a group
            self._failures.append((place, error))
        over.set()

    def _open(self, place: Resolved) -> SocketHandle:
        sock = socket.socket(place.family, socket.SOCK_STREAM)
        try:
            self._prepare(sock)
        except BaseException:
            sock.close()
            raise
        return SocketHandle(sock, self._name)

    def _why(self) -> Exception:
        """A refusal tells most: somebody is there. Else the last failure, with what became of all."""
        codes: dict[str, int] = {}
        for place, error in self._failures:
            if isinstance(error, AipcError) or not isinstance(error, OSError):
                return error
            codes[_text(place)] = error.errno or 0
        code = errno.ECONNREFUSED if errno.ECONNREFUSED in codes.values() else list(codes.values())[-1]
        return os_error(code, self._name, "; ".join(f"{tried}: {os.strerror(code)}" for tried, code in codes.items()))


def connect_step(sock: socket.socket, sockaddr: Any) -> int:
    """One connect(2) of a non-blocking socket, which begins, goes on or ends: its errno, or BlockingIOError until there is one.

    The errno is no exception yet, because an established connection's are others: there, ETIMEDOUT is a lost peer.
    """
    code = sock.connect_ex(sockaddr)
    if code in (errno.EINPROGRESS, errno.EALREADY):
        raise BlockingIOError
    try:
        # Nobody listens, but the kernel chose that very port as ours: two SYNs of one socket that cross make a connection.
        return code or (errno.ECONNREFUSED if sock.getsockname() == sock.getpeername() else 0)
    except OSError as error:
        return error.errno or errno.ENOTCONN


def _text(place: Resolved) -> str:
    host, port = place.sockaddr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
