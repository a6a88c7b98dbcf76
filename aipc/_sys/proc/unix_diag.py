"""Unix sockets with their peers and queues, as ss(8) shows them: the kernel's socket monitor (sock_diag(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_NAME, _FILE, _PEER, _QUEUES = 0, 1, 2, 4
_SHOW = 1 << _NAME | 1 << _FILE | 1 << _PEER | 1 << _QUEUES
_LISTENS = 10
_HEADER, _BODY, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBxIII"), struct.Struct("=HH")
_BUFFER = 1 << 16
_MINOR_BITS = 20  # of the kernel's own device numbers


class UnixSocket(NamedTuple):
    """A socket.

    path     the path or @name that it is bound to, as it was given to bind(2); empty if it is not
    file     the device, and the low half of the inode, of the file that it is bound to
    peer     the inode of the socket at the other end; 0 if there is none
    waiting  of a listener the connections that nobody has accepted yet, otherwise the bytes that nobody has read
    most     of a listener how many may wait, otherwise 0
    """

    inode: int
    path: str
    file: tuple[int, int] | None
    listens: bool
    peer: int
    waiting: int
    most: int


def unix_sockets() -> dict[int, UnixSocket]:
    """Every Unix socket of this network namespace, by inode. OSError if the kernel has no monitor."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as monitor:
        request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0, 0)
        monitor.sendto(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST | _DUMP, 0, 0) + request, (0, 0))
        return {one.inode: one for one in _received(monitor)}


def _received(monitor: socket.socket) -> Iterator[UnixSocket]:
    while True:
        data = monitor.recv(_BUFFER)
        while len(data) >= _HEADER.size:
            size, kind, _, _, _ = _HEADER.unpack_from(data)
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -struct.unpack_from("=i", data, _HEADER.size)[0]
                raise OSError(code, os.strerror(code))
            yield _socket(data[_HEADER.size : size])
            data = data[_aligned(size) :]


def _socket(body: bytes) -> UnixSocket:
    _, _, state, inode, _, _ = _BODY.unpack_from(body)
    attributes = dict(_attributes(body[_BODY.size :]))
    name = attributes.get(_NAME, b"")
    peer = int.from_bytes(attributes.get(_PEER, b""), "little" if struct.pack("=H", 1)[0] else "big")
    unread, capacity = struct.unpack("=II", attributes.get(_QUEUES, bytes(8)))
    listens = state == _LISTENS
    file = None
    if _FILE in attributes:
        number, device = struct.unpack("=II", attributes[_FILE])
        file = os.makedev(device >> _MINOR_BITS, device & (1 << _MINOR_BITS) - 1), number
    shown = "@" + os.fsdecode(name[1:]) if name.startswith(b"\0") else os.fsdecode(name.rstrip(b"\0"))
    return UnixSocket(inode, shown, file, listens, peer, unread, capacity if listens else 0)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : size]
        data = data[_aligned(size) :]


def _aligned(size: int) -> int:
    return (size + 3) & ~3
