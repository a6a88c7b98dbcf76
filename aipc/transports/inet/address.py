"""Internet addresses and socket options for `tcp:`, `tls:` and `udp:` (ip(7), ipv6(7), socket(7), tcp(7)).

`endpoint` reads `127.0.0.1:7000`, `[::1]:7000` or `name:http`. `resolve` turns it into what bind(2) and connect(2) take: a numeric
address at once, a name by the resolver in a thread, without blocking the loop. `set_options` sets the options that a URL may have.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

import anyio

from aipc._address import Address
from aipc.exceptions import LimitExceeded, UnknownHost

_ENDPOINT = re.compile(r"(?:\[(?P<v6>[^][]*)\]|(?P<host>[^][:]*)):(?P<port>[^][:/]+)")
_INT_MAX = (1 << 31) - 1


class Endpoint(NamedTuple):
    """A host, by number or by name, and a port from 0 to 65,535."""

    host: str
    port: int


class Resolved(NamedTuple):
    """The arguments of socket(2), and of bind(2) or connect(2)."""

    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int]


def endpoint(address: Address, text: str | None = None, *, protocol: str = "tcp") -> Endpoint:
    """The host and port of `text`, by default of the URL itself. AddressError if it has another form.

    The port is a number, or the name of a service of that protocol (services(5)).
    """
    if text is None:
        text = address.authority + address.path
    match = _ENDPOINT.fullmatch(text)
    host = match and (match["v6"] or match["host"])
    if match is None or not host:
        raise address.error(f"{text!r} must be host:port, as in 127.0.0.1:7000, [::1]:7000 or localhost:7000")
    if match["v6"] and ":" not in host:
        raise address.error(f"{text!r}: only an IPv6 address stands in brackets")
    return Endpoint(host, _port(address, match["port"], protocol))


def check_endpoint(address: Address, **_options: object) -> None:
    """AddressError for a URL without host and port; no resolver is asked."""
    endpoint(address)


def _port(address: Address, text: str, protocol: str) -> int:
    if text.isascii() and text.isdecimal():
        if int(text) > 0xFFFF:
            raise address.error(f"port {text}: must be from 0 to 65535")
        return int(text)
    try:
        return socket.getservbyname(text, protocol)
    except (OSError, UnicodeError):
        raise address.error(
            f"port {text!r}: must be a number from 0 to 65535, or a service's name of {protocol}, such as http (services(5))"
        ) from None


def numeric(host: str, port: int) -> Resolved | None:
    """Return the address if `host` is a number, such as 127.0.0.1 or fe80::1%eth0; None if it needs a resolver. Never waits."""
    try:
        ipaddress.ip_address(host)
        found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    except (ValueError, OSError):
        return None
    family, _, _, _, sockaddr = found[0]
    return Resolved(family, sockaddr)  # type: ignore[arg-type]


async def resolve(host: str, port: int, where: str, *, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[Resolved]:
    """Return every address of `host`, in the resolver's order; at least one. UnknownHost if there is none.

    `where` is the name that an error uses, such as the URL. Cancelled: nothing happened.
    """
    known = numeric(host, port)
    if known is not None:
        return [known]
    try:
        found = await anyio.getaddrinfo(host, port, type=kind)
    except UnicodeError:
        raise UnknownHost(socket.EAI_NONAME, f"{where}: {host!r} cannot be the name of a host") from None
    except socket.gaierror as error:
        raise UnknownHost(error.errno, f"{where}: no address for the host {host!r} ({error.strerror})") from None
    return [Resolved(family, sockaddr) for family, _, _, _, sockaddr in found]


def set_options(
    sock: socket.socket,
    where: str,
    *,
    nodelay: bool | None = None,
    keepalive: bool | None = None,
    reuse: bool | None = None,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> None:
    """Set the options that are not None. Call it before bind(2) and connect(2): `reuse` has no effect after them.

    nodelay         TCP_NODELAY: small messages leave at once (tcp(7))
    keepalive       SO_KEEPALIVE: the kernel probes a silent peer
    reuse           SO_REUSEPORT: several sockets of one user may bind this address, and the kernel distributes the traffic.
                    (A TCP listener always sets SO_REUSEADDR, to be able to start again at once.)
    send_buffer     SO_SNDBUF, bytes; the kernel doubles it for its own overhead
    receive_buffer  SO_RCVBUF, bytes; likewise

    LimitExceeded if a buffer is over net.core.wmem_max or rmem_max: the kernel alone would silently use less.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive),
        (socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse),
    ):
        if value is not None:
            sock.setsockopt(level, option, int(value))
    _set_buffer(sock, where, "send_buffer", socket.SO_SNDBUF, send_buffer)
    _set_buffer(sock, where, "receive_buffer", socket.SO_RCVBUF, receive_buffer)


def _set_buffer(sock: socket.socket, where: str, name: str, option: int, size: int | None) -> None:
    if size is None:
        return
    limit = "net.core.wmem_max" if option == socket.SO_SNDBUF else "net.core.rmem_max"
    sock.setsockopt(socket.SOL_SOCKET, option, min(size, _INT_MAX))
    got = sock.getsockopt(socket.SOL_SOCKET, option) // 2
    if got < size:
        raise LimitExceeded(f"{where}: {name}={size:,} is over the kernel's limit ({limit})")
