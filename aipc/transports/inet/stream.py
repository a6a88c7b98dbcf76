"""Connecting to and listening at internet addresses: the common base of `tcp:` and `tls:`.

aipc connects by itself, not by `anyio.connect_tcp`, whose socket belongs to a transport of the loop that reads at once. If a server
speaks first, that transport would have read its bytes before the socket could be taken out of it.
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
"""Seconds until the next address is tried beside those that have not answered (RFC 8305, section 5)."""

Prepare = Callable[[socket.socket], None]
"""Sets a new socket's options."""


def _attributes(ask: Callable[[Callable[[socket.socket], Any]], Any]) -> Mapping[Any, Callable[[], Any]]:
    """The addresses of a socket. An IPv6 address is host and port only, without flow and scope, as in anyio."""
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
        return {**super().extra_attributes, **_attributes(self._handle.ask)}


class InetListener(SocketListener[TransportT_co]):
    """Listens at an internet address: `extra(SocketAttribute.local_port)` is its port, which is useful if 0 was asked for."""

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        known = _attributes(self._handle.ask)
        local = (SocketAttribute.local_address, SocketAttribute.local_port)
        return {**super().extra_attributes, **{attribute: known[attribute] for attribute in local}}


async def bind(address: Address, prepare: Prepare, backlog: int) -> ListenerHandle:
    """Return a listening socket at the host's first address. `[::]` takes IPv4, too. ObjectExists if the port is taken.

    UnknownHost, AccessDenied (a port under 1,024); OSError (EADDRNOTAVAIL) for an address that this machine does not have.
    Cancelled: nothing was made.
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
    """Connect to one of the host's addresses: they are tried in turn, 0.25 s apart, and the first that answers wins (RFC 8305).

    UnknownHost if the name has no address. If all fail, NobodyListens, or the OSError of the last one. Cancelled: not connected.
    """
    host, port = endpoint(address)
    if port == 0:
        raise address.error("port 0: only a listener can ask for it, and the kernel gives it a free port")
    race = _Race(address.url, prepare)
    try:
        return await race.run(_interleaved(await resolve(host, port, address.url)))
    except BaseException:
        race.give_up()
        raise


def _interleaved(places: Iterable[Resolved]) -> list[Resolved]:
    """Alternate between the families, each in the resolver's order: a whole family may be unreachable (RFC 8305, section 4)."""
    families: dict[int, list[Resolved]] = {}
    for place in places:
        families.setdefault(place.family, []).append(place)
    return [place for place in chain.from_iterable(zip_longest(*families.values())) if place is not None]


class _Race:
    """Attempts to connect, each a task. The first that succeeds wins; the others are closed."""

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
        except Exception as error:  # noqa: BLE001 - raised by `run`, outside of an exception group
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
        """Choose the error: a refusal says most, because a host answered. Otherwise the last failure, with the results of all."""
        codes: dict[str, int] = {}
        for place, error in self._failures:
            if isinstance(error, AipcError) or not isinstance(error, OSError):
                return error
            codes[_text(place)] = error.errno or 0
        code = errno.ECONNREFUSED if errno.ECONNREFUSED in codes.values() else list(codes.values())[-1]
        return os_error(code, self._name, "; ".join(f"{tried}: {os.strerror(code)}" for tried, code in codes.items()))


def connect_step(sock: socket.socket, sockaddr: Any) -> int:
    """Call connect(2) once on a non-blocking socket: return its errno, or raise BlockingIOError until there is one.

    The errno is not translated yet: for an established connection ETIMEDOUT means a lost peer, here it does not.
    """
    code = sock.connect_ex(sockaddr)
    if code in (errno.EINPROGRESS, errno.EALREADY):
        raise BlockingIOError
    try:
        # Nobody listens, and the kernel chose the same port as ours: a socket can then connect to itself.
        return code or (errno.ECONNREFUSED if sock.getsockname() == sock.getpeername() else 0)
    except OSError as error:
        return error.errno or errno.ENOTCONN


def _text(place: Resolved) -> str:
    host, port = place.sockaddr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
