"""Messages over a connected Unix sequenced-packet socket (unix(7))."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import anyio

from aipc._sys import rights
from aipc.abc import Buffer, ChannelAttribute, Message

from ..packet import PacketHandle
from . import address as unix_address
from .packet import BYTE, SIZE_ONLY, UnixPacketChannel


class SeqpacketChannel(UnixPacketChannel):
    """A connected Unix sequenced-packet socket.

    An empty message and the end of the stream are both a recvmsg(2) of 0 bytes. With SO_PASSCRED each message has its sender's
    credentials, and the end has none; if there is no room for them, a message has MSG_CTRUNC.
    """

    __slots__ = ("_output_ended", "_reset")

    def __init__(self, handle: PacketHandle) -> None:
        super().__init__(handle)
        self._output_ended = False
        self._reset = False  # a peer closed with messages of ours unread

    def _put(self, item: Buffer, **meta: object) -> None:
        if self._output_ended:
            raise anyio.ClosedResourceError(f"{self._name}: send_eof was called")
        super()._put(item, **meta)

    def _next_size(self) -> int:
        try:
            return self._sock.recv_into(BYTE, 1, SIZE_ONLY)
        except ConnectionResetError:
            self._reset = True  # reported once, before the peer's last messages, which are received first
            return super()._next_size()

    def _take_empty(self, flags: int = 0) -> bytes:
        data, _, came, _ = self._sock.recvmsg(1, 0, flags)
        if not data and not came & socket.MSG_CTRUNC:
            self._end()
        return data

    def _message(self, received: rights.Received) -> Message:
        if not received.data and not received.ancillary:
            self._end()
        return super()._message(received)

    def _end(self) -> NoReturn:
        if self._reset:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        raise anyio.EndOfStream(f"{self._name}: the other side sends no more: it closed, or called send_eof()")

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            ChannelAttribute.peer_credentials: lambda: self._handle.ask(unix_address.credentials),
            ChannelAttribute.peer_pidfd: lambda: self._handle.ask(unix_address.pidfd),
        }

    async def send_eof(self) -> None:
        waiting = self._writing({})
        if not self._output_ended:
            waiting.attempt_nowait(self._shut)
            self._output_ended = True

    def _shut(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)
