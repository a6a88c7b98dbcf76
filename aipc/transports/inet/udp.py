"""UDP sockets (udp(7)): messages may be lost, doubled or reordered. There is no back-pressure: the kernel silently drops what a
receiver's buffer cannot hold.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio.abc

from aipc._address import Address
from aipc._io.errors import translate
from aipc.abc import Buffer, Message
from aipc.exceptions import AddressError, UnsupportedOperation

from ..common_options import can_spin
from ..packet import PacketChannel, PacketHandle
from . import address as inet

_ROOM = 0x10000
"""Bytes: more than a datagram can have, so that none is cut."""
_ANY = "0.0.0.0:0"
"""Where the kernel binds a socket that has no address, when it first sends (udp(7))."""
_LIMITS = {socket.AF_INET: 0xFFFF - 20 - 8, socket.AF_INET6: 0xFFFF - 8}
"""The largest payload: IPv4 counts its own header and UDP's, IPv6 only UDP's."""


class UDPChannel(PacketChannel):
    """A UDP socket, connected or not."""

    SEND_OPTIONS = frozenset({"to"})

    __slots__ = ("_connected",)

    def __init__(self, handle: PacketHandle, connected: bool) -> None:
        super().__init__(handle)
        self._connected = connected

    @property
    def _limit(self) -> int:
        return _LIMITS[socket.AddressFamily(self._sock.family)]

    def _transmit(self, data: Buffer, to: Any = None) -> None:
        if to is not None:
            self._sock.sendto(data, to)
        elif self._connected:
            self._sock.send(data)
        else:
            self._handle.check()
            raise UnsupportedOperation(f"{self._name}: not connected; use to=(host, port)")

    def _take(self) -> bytes:
        return self._count(self._sock.recv(_ROOM))

    def _show(self) -> bytes:
        return self._sock.recv(_ROOM, socket.MSG_PEEK)

    def _take_message(self) -> Message:
        data, sender = self._sock.recvfrom(_ROOM)
        return Message(self._count(data), sender=sender)

    async def send(self, item: Buffer, **meta: Any) -> None:
        await super().send(item, **await self._resolved(meta))

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        await super().send_many(items, **await self._resolved(meta))

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        to = meta.get("to")
        if to is not None:
            meta["to"] = self._numeric(to)
            if meta["to"] is None:
                raise UnsupportedOperation(
                    f"{self._name}: to={to!r}: send_nowait takes numbers; for a name the resolver must wait"
                )
        super().send_nowait(item, **meta)

    async def _resolved(self, meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `meta` with numbers in place of a name in `to`."""
        to = meta.get("to")
        if to is None:
            return meta
        sockaddr = self._numeric(to)
        if sockaddr is None:
            found = await inet.resolve(to[0], to[1], self._name, kind=socket.SOCK_DGRAM)
            sockaddr = next((each.sockaddr for each in found if each.family == self._sock.family), None)
            if sockaddr is None:
                raise self._bad(to, f"the host has no {self._sock.family.name} address")
        return {**meta, "to": sockaddr}

    def _numeric(self, to: Any) -> Any:
        """Return `to` in the form of sendto(2); None if it needs a resolver. AddressError if it is not an address."""
        if not (isinstance(to, tuple) and len(to) in (2, 4) and isinstance(to[0], str) and isinstance(to[1], int)):
            raise self._bad(to, "must be (host, port), as in ('127.0.0.1', 7000)")
        if not 0 < to[1] <= 0xFFFF:
            raise self._bad(to, "a port is from 1 to 65535")
        try:
            socket.inet_pton(self._sock.family, to[0])
        except (OSError, ValueError):
            known = inet.numeric(to[0], to[1])
            if known is not None and known.family != self._sock.family:
                hint = "; bind=[::]:0 makes one for IPv6" if known.family == socket.AF_INET6 else ""
                raise self._bad(to, f"this socket is {self._sock.family.name}{hint}") from None
            return known and known.sockaddr
        return to

    def _bad(self, to: Any, why: str) -> AddressError:
        return AddressError(f"{self._name}: to={to!r}: {why}")

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            anyio.abc.SocketAttribute.local_port: lambda: self._handle.ask(socket.socket.getsockname)[1],
            anyio.abc.SocketAttribute.remote_port: lambda: self._handle.ask(socket.socket.getpeername)[1],
        }


def check(address: Address, *, bind: str | None = None, **_options: object) -> None:
    """AddressError for what is no host and port; no resolver is asked."""
    for text in {bind, (address.authority + address.path) or None} - {None}:
        inet.endpoint(address, text, protocol="udp")


@can_spin
async def connect(
    address: Address,
    *,
    bind: str | None = None,
    reuse: bool | None = None,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> UDPChannel:
    """Open a UDP socket, connected to the URL's host and port; without them, `send` takes `to`: of IPv4, unless `bind` is IPv6.

    `bind` is the host:port at which it receives; for port 0 the kernel picks one. UnknownHost, ObjectExists (the port is taken),
    AddressError. Cancelled: nothing was opened.
    """
    if not (address.authority or address.path or bind):
        bind = _ANY
    peers = await _addresses(address, None) if address.authority or address.path else [None]
    owns = [None] if bind is None else await _addresses(address, bind)
    pairs = [(peer, own) for peer in peers for own in owns if peer is None or own is None or peer.family == own.family]
    if not pairs:
        raise address.error(f"bind={bind!r}: one address is IPv4, the other IPv6")
    for peer, own in pairs:
        try:
            sock = _socket(address, peer, own, reuse=reuse, send_buffer=send_buffer, receive_buffer=receive_buffer)
        except OSError as error:
            failed = error
        else:
            return UDPChannel(PacketHandle(sock, address.url), peer is not None)
    raise translate(failed, address.url) from None


async def _addresses(address: Address, text: str | None) -> list[inet.Resolved | None]:
    host, port = inet.endpoint(address, text, protocol="udp")
    if text is None and not port:
        raise address.error("port 0: needs the peer's real port")
    return list(await inet.resolve(host, port, address.url, kind=socket.SOCK_DGRAM))


def _socket(address: Address, peer: inet.Resolved | None, own: inet.Resolved | None, **options: Any) -> socket.socket:
    either = peer or own
    sock = socket.socket(either.family if either else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        inet.set_options(sock, address.url, **options)
        if own is not None:
            sock.bind(own.sockaddr)
        if peer is not None:
            sock.connect(peer.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock
