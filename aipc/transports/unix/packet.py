"""Messages over Unix sockets that keep them apart: the common base of datagrams and sequenced packets (unix(7)).

The kernel is first asked for the length of the next message (MSG_PEEK with MSG_TRUNC), so that none is ever cut. A plain `receive`
gives the kernel no room for descriptors: it closes those that came, so none can leak.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import NoReturn

import anyio

from aipc._sys import rights
from aipc.abc import Buffer, Credentials, Message
from aipc.exceptions import InvalidMessage

from ..packet import LARGEST_BLOCK, PacketChannel, PacketHandle

_OVERHEAD = 32
"""Bytes of the send buffer that a message cannot use (unix_dgram_sendmsg in the kernel's net/unix/af_unix.c)."""
SIZE_ONLY = socket.MSG_PEEK | socket.MSG_TRUNC
BYTE = bytearray(1)


def ask_credentials(sock: socket.socket) -> None:
    """Ask for the sender's credentials with each message: at least with those sent from now on (SO_PASSCRED)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


class UnixPacketChannel(PacketChannel):
    """Messages over a Unix socket that keeps them apart, with descriptors and credentials beside them."""

    SEND_OPTIONS = frozenset({"fds"})

    __slots__ = ()

    def __init__(self, handle: PacketHandle) -> None:
        super().__init__(handle)
        ask_credentials(self._sock)

    @property
    def _limit(self) -> int:
        return min(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _OVERHEAD, LARGEST_BLOCK)

    def _transmit(self, data: Buffer, fds: Sequence[int] = ()) -> None:
        if fds:
            self._send_rights(data, fds)
        else:
            self._sock.send(data, socket.MSG_NOSIGNAL)

    def _send_rights(self, data: Buffer, fds: Sequence[int], *to: str) -> None:
        try:
            rights.send(self._sock, [data], fds, *to)
        except OSError as error:
            if error.errno == errno.EBADF and not self._handle.closed:
                raise InvalidMessage(f"{self._name}: fds={fds!r}: not all of them are open descriptors") from None
            raise

    def _next_size(self) -> int:
        """Return the number of bytes of the next message, which stays in the queue."""
        return self._sock.recv_into(BYTE, 1, SIZE_ONLY)

    def _take(self) -> bytes:
        size = self._next_size()
        data = self._sock.recv(size + 1) if size else self._take_empty()
        if len(data) > size:
            self._cut()
        return self._count(data)

    def _take_empty(self, flags: int = 0) -> bytes:
        """Take the next message, which is empty; with MSG_PEEK, look at it."""
        return self._sock.recv(1, flags)

    def _show(self) -> bytes:
        size = self._next_size()
        data = self._sock.recv(size + 1, socket.MSG_PEEK) if size else self._take_empty(socket.MSG_PEEK)
        return data if len(data) <= size else self._show()  # another process took the one before

    def _take_message(self) -> Message:
        size = self._next_size()
        received = rights.receive(self._sock, size + 1)
        if len(received.data) > size:
            rights.close(received.fds)
            self._cut()
        return self._message(received)

    def _message(self, received: rights.Received) -> Message:
        sender = rights.credentials(received.ancillary)
        return Message(
            self._count(received.data),
            fds=received.fds,
            credentials=None if sender is None else Credentials(*sender),
            truncated=bool(received.flags & socket.MSG_CTRUNC),
        )

    def _cut(self) -> NoReturn:
        """Raise: the message taken is not the one that was measured, and may be cut."""
        raise anyio.BrokenResourceError(f"{self._name}: another process receives from this same socket; a message was lost")
