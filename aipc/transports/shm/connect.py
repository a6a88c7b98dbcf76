"""Shared memory between two processes (`shm:`): a Unix socket is where they meet, and their doorbell afterwards.

The connecting process makes the memory for both rings (`wire.ring`), sealed, and sends 8 bytes, `aipcshm1`, with its descriptor; it produces
in direction 1, the listener's side in direction 0. Each later byte on the socket, either way, is a ring of the doorbell; the
socket's end is the peer's end.
"""

from __future__ import annotations

import socket

from aipc._address import Address
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.ring import DEFAULT, LARGEST, SMALLEST, is_capacity

from ..common_options import MISSING_OR_REFUSED, can_spin, can_wait
from ..listener import SocketListener
from ..unix import address as unix_address
from .channel import RingChannel
from .handle import RingHandle

_LISTENER, _CLIENT = 0, 1


@can_spin
@can_wait(*MISSING_OR_REFUSED)
async def connect(address: Address, *, capacity: int = DEFAULT, max_message_size: int = MAX_MESSAGE_SIZE) -> RingChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    `capacity`: bytes of each of the two rings, a power of two from 4,096 to 1 GiB. Cancelled: not connected.
    """
    _check(address, capacity)
    sock = unix_address.new_socket(socket.SOCK_STREAM)
    try:
        await unix_address.connect(address, sock)
        handle = RingHandle(sock, address.url, _CLIENT, max_message_size)
    finally:
        sock.close()  # unless the handle owns it by now
    try:
        handle.offer(capacity)
    except BaseException:
        handle.close()
        raise
    return RingChannel(handle, max_message_size)


@can_spin
async def listen(
    address: Address,
    *,
    capacity: int = LARGEST,
    max_message_size: int = MAX_MESSAGE_SIZE,
    backlog: int = 1024,
    max_connections: int | None = None,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
) -> SocketListener[RingChannel]:
    """Listen. The rings are the client's; `capacity`: how many bytes may wait unread in ours at most. The rest is as for `unix:`.

    Cancelled: nothing was made.
    """
    _check(address, capacity)

    def wrap(connection: socket.socket) -> RingChannel:
        return RingChannel(RingHandle(connection, address.url, _LISTENER, max_message_size, capacity), max_message_size)

    sock = unix_address.new_socket(socket.SOCK_STREAM)
    return await unix_address.listen(
        address,
        sock,
        wrap,
        backlog=backlog,
        max_connections=max_connections,
        mode=mode,
        exclusive=exclusive,
        unlink=unlink,
    )


def _check(address: Address, capacity: int) -> None:
    if not is_capacity(capacity):
        raise address.error(f"capacity={capacity}: must be a power of two from {SMALLEST:,} to {LARGEST:,}")
