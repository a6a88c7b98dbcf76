"""Connected stream sockets of every family, and their attributes as anyio names them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio.abc

from aipc._io.handle import SocketHandle
from aipc._io.loop import backend
from aipc.abc import Buffer, ChannelAttribute
from aipc.wire.framing import Framing

from .byte_stream import ByteStreamChannel
from .frame_sender import GONE, Unfinished

_LONGEST_HELD = 1024
"""Bytes of a message that may be held."""
_MOST_HELD = 32
"""Messages that may be held: more would only wait here until the kernel has room."""


class SocketStreamChannel(ByteStreamChannel):
    """Messages over a connected stream socket."""

    __slots__ = ("_handle", "_held")

    def __init__(self, handle: SocketHandle, framing: Framing) -> None:
        super().__init__(handle, handle, framing)
        self._handle = handle
        self._held: Unfinished | None = None

    def hold_nowait(self, item: Buffer) -> None:
        """As `send_nowait`, but the message is written together with the next ones: at the latest after this turn of the loop.

        For senders that know that others send in the same turn. If the connection is lost by then, the next send raises that.
        """
        frame = self._framing.encode(item)
        held = self._unfinished
        room = held is None or (held is self._held and len(held.views) < _MOST_HELD)
        if room and isinstance(frame, bytes) and len(frame) <= _LONGEST_HELD and not self._output_ended:
            self._writing({}).attempt_nowait(self._hold, frame)
        else:
            self.send_nowait(item)

    async def send_held(self) -> None:
        """Wait until the kernel has what was held. Errors as `send`. Cancelled: it is sent all the same."""
        if self._unfinished is not None:
            await self._writing({}).attempt(self._flush, self._unfinished)

    def _hold(self, frame: bytes) -> None:
        self._writer.check()
        loop = backend.current()
        if self._held is None or self._finisher is not loop:  # the loop of an earlier one may be over
            self._finisher = loop
            backend.call_soon(self._send_held)
        if self._unfinished is None:
            self._unfinished = self._held = Unfinished(frame, (frame,))
        else:
            self._unfinished.add(frame)
        self._sent += 1

    def _send_held(self) -> None:
        held, self._held = self._held, None
        self._finisher = None
        if held is None or held is not self._unfinished:
            return  # another message's sender has written it
        try:
            self._flush(held)
        except BlockingIOError:
            self._finish_in_background(held)
        except GONE:
            pass  # the next send meets the same error, and tells its caller

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
