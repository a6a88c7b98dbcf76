"""TCP and UDP sockets: /proc/net/tcp, tcp6, udp and udp6 (proc_pid_net(5))."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LISTENS = "0A"
_TIME_WAIT = "06"

Host = ipaddress.IPv4Address | ipaddress.IPv6Address


class InetSocket(NamedTuple):
    """A socket. `unread` are bytes that nobody has read, of a TCP listener connections that nobody has accepted.

    `unsent` are bytes that the other side has not acknowledged; `drops` datagrams for which there was no room.
    """

    inode: int
    local: tuple[Host, int]
    remote: tuple[Host, int]
    listens: bool
    unread: int
    unsent: int
    drops: int


def inet_sockets(protocol: str) -> list[InetSocket]:
    """Every socket of "tcp" or "udp" in this network namespace, over IPv4 and IPv6; no connection that has ended (TIME_WAIT).

    The kernel makes the list while it is read, so that it may name a socket twice when others come and go.
    """
    rows = [one for name in (protocol, f"{protocol}6") for one in _rows(Path(f"/proc/net/{name}"))]
    return list({(one.inode, one.local, one.remote): one for one in rows}.values())


def _rows(file: Path) -> Iterator[InetSocket]:
    for line in file.read_text().splitlines()[1:] if file.exists() else ():
        _, local, remote, state, queues, _, _, _, _, inode, *more = line.split()
        if state == _TIME_WAIT and file.name.startswith("tcp"):
            continue
        unsent, unread = (int(number, 16) for number in queues.split(":"))
        drops = int(more[-1]) if file.name.startswith("udp") else 0
        yield InetSocket(int(inode), _endpoint(local), _endpoint(remote), state == _LISTENS, unread, unsent, drops)


def _endpoint(text: str) -> tuple[Host, int]:
    """Hexadecimal words in the machine's order, and the port."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address, int(port, 16)
