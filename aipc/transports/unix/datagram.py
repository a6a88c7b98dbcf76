"""Unix datagram sockets (unix(7)): connectionless, but reliable: a sender waits while the receiver's queue is full."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.polling import Polling
from aipc._io.waiter import Waiter
from aipc._sys import rights
from aipc._sys.files import short_path
from aipc.abc import Buffer, Message
from aipc.exceptions import UnsupportedOperation

from ..common_options import can_spin
from ..inet.address import set_options
from ..nameless import Nameless
from ..packet import PacketHandle
from . import address as unix_address
from .packet import UnixPacketChannel, ask_credentials


class _DatagramHandle(PacketHandle):
    """Owns a datagram socket and its file. `polling` waits for room in the queue of a receiver to which it is not connected."""

    __slots__ = ("_forget", "polling")

    def __init__(self, sock: socket.socket, name: str, forget: Callable[[], None] = unix_address.keep) -> None:
        super().__init__(sock, name)
        self._forget = forget
        self.polling: Polling = Polling(self, selective=True)

    def _close(self) -> None:
        self.polling.close()
        self._forget()
        super()._close()


class DatagramChannel(UnixPacketChannel):
    """A Unix datagram socket.

    Connected, it waits by readiness for room in its peer's queue: the kernel wakes it when the peer receives. For another receiver
    (`to`) POLLOUT says nothing about the queue, and each failed try sets it again: that wait polls.
    """

    SEND_OPTIONS = frozenset({"fds", "to"})

    __slots__ = ("_peer", "_polling")

    def __init__(self, handle: _DatagramHandle, peer: str | None) -> None:
        super().__init__(handle)
        self._peer = peer
        self._polling = handle.polling

    def _writing(self, meta: Mapping[str, Any]) -> Waiter:
        waiting = super()._writing(meta)
        return self._polling if meta.get("to") is not None else waiting

    def _transmit(self, data: Buffer, fds: Sequence[int] = (), to: str | os.PathLike[str] | None = None) -> None:
        if to is not None:
            self._send_to(data, fds, os.fspath(to))
            return
        try:
            super()._transmit(data, fds)
        except OSError as error:
            if self._peer is None and error.errno == errno.ENOTCONN:
                raise UnsupportedOperation(f"{self._name}: not connected; use to=address") from None
            raise

    def _send_to(self, data: Buffer, fds: Sequence[int], to: str) -> None:
        name = unix_address.kernel_name(to, f"{self._name}: to={to!r}")
        try:
            with short_path(name) as short:
                self._send_rights(data, fds, short)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise os_error(errno.EPERM, f"{self._name}: to={to!r}", unix_address.TAKEN) from None
            error.filename = to
            raise

    def _message(self, received: rights.Received) -> Message:
        return super()._message(received)._replace(sender=unix_address.shown_name(received.sender))


@can_spin
async def connect(
    address: Address,
    *,
    bind: str | None = None,
    exclusive: bool = False,
    mode: int = 0o600,
    unlink: bool = True,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
) -> DatagramChannel:
    """Open a datagram socket, connected to the URL's path or name; without one, `send` needs `to`.

    `bind` is the path or @name at which it receives; without it the kernel picks an abstract name, so that peers can reply.
    ObjectMissing, NobodyListens, WrongObject or AccessDenied if the peer cannot be reached; ObjectExists if a live process owns
    `bind`. A stale socket file is replaced; with `exclusive` not even that. The file has exactly `mode`, whatever the umask;
    `unlink` removes it on close if it is still the socket's. Cancelled: nothing was made.
    """
    peer = unix_address.socket_address(address) if address.path or address.authority else None
    own = "" if bind is None else _own_name(bind, address.url)
    sock = unix_address.new_socket(socket.SOCK_DGRAM)
    forget = unix_address.keep
    try:
        set_options(sock, address.url, send_buffer=send_buffer, receive_buffer=receive_buffer)
        if peer is not None:
            await unix_address.connect(address, sock)
        ask_credentials(sock)  # before any process can send
        forget = await unix_address.bind(own, address.url, sock, mode=mode, exclusive=exclusive)
        return DatagramChannel(_DatagramHandle(sock, address.url, forget if unlink else unix_address.keep), peer)
    except BaseException:
        forget()
        raise
    finally:
        sock.close()  # unless the channel owns it


def _own_name(bind: str, url: str) -> str:
    name = unix_address.kernel_name(bind, f"{url}: bind")
    return name if name.startswith("\0") else os.path.abspath(name)  # peers reply to it from other directories


def pair() -> tuple[DatagramChannel, DatagramChannel]:
    """Return two connected channels (socketpair(2))."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = "unix datagram pair"
    return DatagramChannel(_PairHandle(ours, name), name), DatagramChannel(_PairHandle(theirs, name), name)


class _PairHandle(Nameless, _DatagramHandle):
    __slots__ = ()
