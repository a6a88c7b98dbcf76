"""Connected stream sockets of every family, and their attributes as anyio names them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio.abc

from aipc._io.handle import SocketHandle
from aipc.abc import ChannelAttribute
from aipc.wire.framing import Framing

from .byte_stream import ByteStreamChannel


class SocketStreamChannel(ByteStreamChannel):
    """Messages over a connected stream socket."""

    __slots__ = ("_handle",)

    def __init__(self, handle: SocketHandle, framing: Framing) -> None:
        super().__init__(handle, handle, framing)
        self._handle = handle

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: self._handle.fd,
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
            anyio.abc.SocketAttribute.raw_socket: lambda: self._handle.ask(lambda sock: sock),
            anyio.abc.SocketAttribute.family: lambda: self._handle.ask(lambda sock: sock.family),
            anyio.abc.SocketAttribute.local_address: lambda: self._handle.ask(socket.socket.getsockname),
            anyio.abc.SocketAttribute.remote_address: lambda: self._handle.ask(socket.socket.getpeername),
        }
