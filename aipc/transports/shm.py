"""Shared memory between two processes (`shm:`): a Unix socket is where they meet, and their doorbell afterwards.

The listener sends 8 bytes, `aipcshm1`, and with them the descriptor of sealed memory for both rings (`wire.ring`); it produces in
direction 0, who connects in direction 1. Every later byte on the socket is a ring of the doorbell, and its end the peer's end.
"""

from __future__ import annotations

import mmap
import os
import socket
from functools import partial

from aipc._address import Address
from aipc._io.handle import FileHandle
from aipc._sys import memfd, rights
from aipc.exceptions import ProtocolError
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.ring import DEFAULT, LARGEST, SMALLEST, capacity_of, memory_size

from . import unix_address
from .listener import SocketListener
from .shm_channel import RingChannel, RingHandle, map_memory

HELLO = b"aipcshm1"
_LISTENER, _CLIENT = 0, 1


async def connect(address: Address, *, max_message_size: int = MAX_MESSAGE_SIZE) -> RingChannel:
    """Meet a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    ProtocolError, WrongObject: what listens there is no `shm:` listener, or gives memory that could be shrunk. Cancelled: not
    connected.
    """
    sock = unix_address.new_socket(socket.SOCK_STREAM)
    try:
        await unix_address.connect(address, sock)
        waiting = FileHandle(os.dup(sock.fileno()), address.url)
        try:
            fd = await waiting.readable.attempt(partial(_greeted, sock, address.url))
        finally:
            waiting.close()
        return RingChannel(RingHandle(sock, _mapped(fd), address.url, _CLIENT, max_message_size), max_message_size)
    finally:
        sock.close()  # unless the channel owns it by now


def _greeted(sock: socket.socket, name: str) -> int:
    """The descriptor of the memory that the listener offers."""
    received = rights.receive(sock, len(HELLO))
    if received.data == HELLO and len(received.fds) == 1:
        return received.fds[0]
    rights.close(received.fds)
    said = f"said {received.data!r} with {len(received.fds)} descriptors" if received.data else "hung up"
    raise ProtocolError(f"{name}: no shm: listener; it {said}, where {HELLO!r} with one belongs")


def _mapped(fd: int) -> mmap.mmap:
    try:
        size = memfd.check(fd)
        capacity_of(size)
    except BaseException:
        os.close(fd)
        raise
    return map_memory(fd, size)


async def listen(
    address: Address,
    *,
    capacity: int = DEFAULT,
    max_message_size: int = MAX_MESSAGE_SIZE,
    backlog: int = 1024,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
) -> SocketListener:
    """Listen; each connection gets two rings of `capacity` bytes, a power of two of 4,096 or more. The rest is as for `unix:`.

    Cancelled: nothing was made.
    """
    if not SMALLEST <= capacity <= LARGEST or capacity & (capacity - 1):
        raise address.error(f"capacity={capacity}: must be a power of two from {SMALLEST:,} to {LARGEST:,}")

    def wrap(connection: socket.socket) -> RingChannel:
        connection.setblocking(False)
        fd = memfd.create("aipc ring", memory_size(capacity))
        try:
            rights.send(connection, [HELLO], [fd])
        except BaseException:
            os.close(fd)
            raise
        memory = map_memory(fd, memory_size(capacity))
        return RingChannel(RingHandle(connection, memory, address.url, _LISTENER, max_message_size), max_message_size)

    sock = unix_address.new_socket(socket.SOCK_STREAM)
    return await unix_address.listen(address, sock, wrap, backlog=backlog, mode=mode, exclusive=exclusive, unlink=unlink)
