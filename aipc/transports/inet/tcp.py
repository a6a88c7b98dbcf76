"""TCP (tcp(7)), over IPv4 and IPv6."""

from __future__ import annotations

import socket
from functools import partial
from typing import ClassVar

from aipc._address import Address
from aipc._io.handle import SocketHandle
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from ..common_options import can_spin, can_wait
from .address import check_endpoint, set_options
from .stream import InetListener, InetStreamChannel, bind, dial


class TcpChannel(InetStreamChannel):
    """Messages over a TCP connection."""

    _CALLS_PLAINLY: ClassVar[bool] = True

    __slots__ = ()


check = check_endpoint


@can_spin
@can_wait(ConnectionRefusedError)
async def connect(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    nodelay: bool = True,
    keepalive: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> TcpChannel:
    """Connect to `tcp://127.0.0.1:9734`, `tcp://[::1]:9734` or `tcp://name:9734`.

    A name's addresses are tried in turn, 0.25 s apart; the first that answers is used. UnknownHost, NobodyListens, TimeoutError or
    another OSError if that fails. Cancelled: not connected.
    """
    chosen = framing_named(framing, max_message_size)
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )
    return TcpChannel(await dial(address, prepare), chosen)


@can_spin
async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    backlog: int = 1024,
    max_connections: int | None = None,
    nodelay: bool = True,
    keepalive: bool = False,
    reuse: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> InetListener:
    """Listen at a host's first address. Port 0 takes a free one, which `extra(SocketAttribute.local_port)` returns.

    `tcp://[::]:9734` means every address of this machine, IPv6 and IPv4; `tcp://0.0.0.0:9734` every IPv4 address. ObjectExists
    if the port is taken. Cancelled: nothing was made.
    """
    chosen = framing_named(framing, max_message_size)
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        reuse=reuse or None,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )  # accepted sockets inherit them all (tcp(7))

    def wrap(connection: socket.socket) -> TcpChannel:
        return TcpChannel(SocketHandle(connection, address.url), chosen)

    return InetListener(await bind(address, prepare, backlog), wrap, max_connections=max_connections)
