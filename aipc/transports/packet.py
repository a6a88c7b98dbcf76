"""Sockets on which the kernel keeps messages apart: the common base of Unix datagrams, sequenced packets and UDP.

Sending a message is one system call. `_take` and `_take_message` make sure that a received message is never cut.
"""

from __future__ import annotations

import errno
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio
import anyio.abc

from aipc._io.errors import os_error
from aipc._io.handle import Handle, SocketHandle
from aipc._io.waiter import Waiter
from aipc.abc import Buffer, ChannelAttribute
from aipc.exceptions import AipcError, LimitExceeded, MessageTooLarge, WrongObject
from aipc.wire.framing import as_bytes

from .base import TransportChannel

LARGEST_BLOCK = 4 * 1024 * 1024
"""Bytes that the kernel certainly takes in one piece; ENOBUFS for a longer message means that it is too long."""


class PacketHandle(SocketHandle):
    """Owns a socket on which a missing receiver is an error of the one call only."""

    __slots__ = ()

    def explain(self, error: OSError) -> Exception:
        if isinstance(error, AipcError) or self.closed or self.forked:
            return super().explain(error)
        where = f"{self.name}: to={error.filename!r}" if error.filename else self.name
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
            return anyio.BrokenResourceError(f"{where}: nobody receives there")
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
            return os_error(error.errno, where)  # no route: a connection would be broken, this socket is not
        if error.errno == errno.EPROTOTYPE:
            return WrongObject(errno.EPROTOTYPE, f"{where}: a socket of another kind")
        if error.errno == errno.ETOOMANYREFS:
            return LimitExceeded(f"{where}: more descriptors under way than this user may have (RLIMIT_NOFILE)")
        return super().explain(error)


class PacketChannel(TransportChannel):
    """Messages over a socket that keeps them apart."""

    __slots__ = ("_handle", "_sock")

    def __init__(self, handle: PacketHandle) -> None:
        super().__init__(handle.readable)
        self._handle = handle
        self._sock = handle.socket()

    @abstractmethod
    def _transmit(self, *data: Any, **meta: Any) -> None:
        """Send the whole message by one system call."""

    @property
    @abstractmethod
    def _limit(self) -> int:
        """The largest message that can be sent, in bytes."""

    def _handles(self) -> Iterable[Handle]:
        return (self._handle,)

    def _open_outgoing(self) -> Waiter:
        return self._handle.writable

    def _put(self, item: Buffer, **meta: Any) -> None:
        data = item if isinstance(item, bytes) else as_bytes(item)
        try:
            self._transmit(data, **meta)
        except OSError as error:
            if error.errno == errno.EMSGSIZE or (error.errno == errno.ENOBUFS and len(data) > LARGEST_BLOCK):
                raise MessageTooLarge(
                    f"{self._name}: a message of {len(data):,} bytes; this socket's limit is {self._limit:,}"
                ) from None
            raise
        self._sent += 1
        self._bytes_sent += len(data)

    async def peek(self) -> bytes:
        return await self._reading({}).attempt(self._show)

    @abstractmethod
    def _show(self) -> bytes:
        """The next message, which stays (MSG_PEEK)."""

    def _count(self, data: bytes) -> bytes:
        self._received += 1
        self._bytes_received += len(data)
        return data

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.max_message_size: lambda: self._handle.call(lambda: self._limit),
            anyio.abc.SocketAttribute.raw_socket: lambda: self._handle.ask(lambda sock: sock),
            anyio.abc.SocketAttribute.family: lambda: self._sock.family,
            anyio.abc.SocketAttribute.local_address: lambda: self._handle.ask(socket.socket.getsockname),
            anyio.abc.SocketAttribute.remote_address: lambda: self._handle.ask(socket.socket.getpeername),
        }
