"""TLS over TCP (`tls:`): connecting and listening. `tls_channel` has the channel."""

from __future__ import annotations

import socket
import ssl
from functools import partial

from aipc._address import Address
from aipc._io.handle import SocketHandle
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from ..common_options import can_spin, can_wait
from .address import check_endpoint, endpoint, set_options
from .stream import InetListener, bind, dial
from .tls_channel import TlsChannel
from .tls_context import client_context, server_context

check = check_endpoint


@can_spin
@can_wait(ConnectionRefusedError)
async def connect(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ragged_end: bool = False,
    nodelay: bool = True,
    keepalive: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> TlsChannel:
    """Connect as `tcp:` does, and do the handshake. CertificateRefused if the server's certificate is not valid for the name.

    Without `ssl_context`, the certificate must come from an authority in `cafile`, or in the system's list. ProtocolError if the
    peer does not speak TLS. Cancelled: not connected.
    """
    chosen = framing_named(framing, max_message_size)
    context = await client_context(address, ssl_context, cafile, certfile, keyfile)
    name = endpoint(address).host if server_hostname is None else server_hostname
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )
    handle = await dial(address, prepare)
    try:
        channel = TlsChannel(handle, chosen, partial(context.wrap_bio, server_hostname=name), ragged_end=ragged_end)
        await channel.handshake()
    except BaseException:
        handle.close()
        raise
    return channel


@can_spin
async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    ssl_context: ssl.SSLContext | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    cafile: str | None = None,
    ragged_end: bool = False,
    backlog: int = 1024,
    max_connections: int | None = None,
    nodelay: bool = True,
    keepalive: bool = False,
    reuse: bool = False,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> InetListener[TlsChannel]:
    """Listen as `tcp:` does, with `certfile` and `keyfile`, or an `ssl_context`. With `cafile`, clients need certificates, too.

    Accepting does not wait for a handshake: a client that never does one delays only its own handler.
    """
    chosen = framing_named(framing, max_message_size)
    context = await server_context(address, ssl_context, cafile, certfile, keyfile)
    prepare = partial(
        set_options,
        where=address.url,
        nodelay=nodelay,
        keepalive=keepalive,
        reuse=reuse or None,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )

    def wrap(connection: socket.socket) -> TlsChannel:
        handle = SocketHandle(connection, address.url)
        return TlsChannel(handle, chosen, partial(context.wrap_bio, server_side=True), ragged_end=ragged_end)

    return InetListener(await bind(address, prepare, backlog), wrap, max_connections=max_connections)
