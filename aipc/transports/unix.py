"""Unix stream sockets (unix(7)): by path, by abstract name, and in connected pairs."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Any

from aipc._address import Address
from aipc._io.errors import named
from aipc._io.files import LONGEST_SOCKET_PATH, directory_locked, same_file, short_path
from aipc._io.handle import ListenerHandle, Place, SocketHandle
from aipc._io.polling import Polling
from aipc.abc import ChannelAttribute, Credentials
from aipc.exceptions import WrongObject
from aipc.wire.framing import MAX_MESSAGE_SIZE
from aipc.wire.framing import framing as framing_named

from .listener import SocketListener
from .socket_stream import SocketStreamChannel

_UCRED = struct.Struct("iII")


class UnixChannel(SocketStreamChannel):
    """Messages over a connected Unix stream socket."""

    __slots__ = ()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            **super().extra_attributes,
            ChannelAttribute.peer_credentials: lambda: self._asked(_credentials),
        }


def _credentials(sock: socket.socket) -> Credentials:
    """The process that connected, or listened, as it was then (SO_PEERCRED)."""
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def socket_address(address: Address) -> str:
    """The path, or an abstract name behind a zero byte. AddressError if there is neither."""
    if address.authority or address.path in ("", "@"):
        raise address.error("needs a path, as in unix:/run/app.sock, or an abstract name, as in unix:@name")
    if not address.path.startswith("@"):
        return address.path
    if len(os.fsencode(address.path)) > LONGEST_SOCKET_PATH + 1:  # its zero byte stands for the @
        raise address.error(f"an abstract name has at most {LONGEST_SOCKET_PATH} bytes")
    return "\0" + address.path[1:]


async def connect(address: Address, *, framing: str = "u32", max_message_size: int = MAX_MESSAGE_SIZE) -> UnixChannel:
    """Connect to a listener. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    path = socket_address(address)
    chosen = framing_named(framing, max_message_size)
    # A full backlog is EAGAIN with nothing to wait for (connect(2)), so this one is polled.
    polling = Polling(Place(address.url))
    sock = _socket()
    try:
        await polling.attempt(_connect, sock, path, address.url)
        return UnixChannel(SocketHandle(sock, address.url), chosen)
    finally:
        polling.close()
        sock.close()  # unless the channel owns it by now


def _connect(sock: socket.socket, path: str, name: str) -> None:
    if path.startswith("\0"):
        sock.connect(path)
        return
    try:
        with short_path(path) as short:
            sock.connect(short)
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise WrongObject(errno.ENOTSOCK, f"{name}: {path} is not a socket") from None
        raise named(errno.ECONNREFUSED, name, "the socket file is there, but nobody listens on it") from None
    except OSError as error:
        if error.errno == errno.EPROTOTYPE:
            raise WrongObject(errno.EPROTOTYPE, f"{name}: a socket of another kind, not a stream") from None
        raise


async def listen(
    address: Address,
    *,
    framing: str = "u32",
    max_message_size: int = MAX_MESSAGE_SIZE,
    backlog: int = 1024,
    max_connections: int | None = None,
    mode: int = 0o600,
    exclusive: bool = False,
    unlink: bool = True,
) -> SocketListener:
    """Listen. A stale socket file is taken over; with `exclusive` not even that.

    ObjectExists if a live process owns the path; WrongObject if it is not a socket: neither is ever removed. `mode` is the
    file's, whatever the umask; `unlink` removes it on close if it is still ours. Cancelled: nothing was made.
    """
    path = socket_address(address)
    chosen = framing_named(framing, max_message_size)
    polling = Polling(Place(address.url))
    sock = _socket()
    try:
        forget = await polling.attempt(_bind, sock, path, address.url, mode, exclusive)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    finally:
        polling.close()

    def wrap(connection: socket.socket) -> UnixChannel:
        return UnixChannel(SocketHandle(connection, address.url), chosen)

    handle = ListenerHandle(sock, address.url)
    return SocketListener(handle, wrap, forget if unlink else lambda: None, max_connections=max_connections)


def _bind(sock: socket.socket, path: str, name: str, mode: int, exclusive: bool) -> Callable[[], None]:
    """Bind, and say how to remove the file again. BlockingIOError while another process is at it in that directory."""
    if path.startswith("\0"):
        sock.bind(path)
        return lambda: None
    with directory_locked(path), short_path(path) as short:
        if os.path.lexists(path):
            _remove_stale(path, short, name, exclusive)
        os.fchmod(sock.fileno(), mode)  # bind(2) takes it over, less the umask: never more open than asked, even briefly
        sock.bind(short)
        os.chmod(path, mode)
        ours = os.lstat(path)
    place = os.path.abspath(path)  # wherever this process may be by then

    def forget() -> None:
        if same_file(place, ours):
            os.unlink(place)

    return forget


def _remove_stale(path: str, short: str, name: str, exclusive: bool) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise WrongObject(errno.ENOTSOCK, f"{name}: {path} is there and not a socket; it was left alone")
    if exclusive:
        raise named(errno.EEXIST, name, "the file exists, and exclusive was asked for")
    if _owned(short):
        raise named(errno.EADDRINUSE, name, "another process has this socket open; it was left alone")
    os.unlink(path)


def _owned(path: str) -> bool:
    """Whether a live process has the socket file bound.

    Asked with a datagram socket: a live stream socket answers EPROTOTYPE and does not even see a connection; one that
    nobody has open is ECONNREFUSED.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        code = probe.connect_ex(path)
    if code not in (0, errno.EPROTOTYPE, errno.ECONNREFUSED):
        raise OSError(code, os.strerror(code))
    return code != errno.ECONNREFUSED


def pair() -> tuple[UnixChannel, UnixChannel]:
    """Two connected channels (socketpair(2))."""
    ours, theirs = (
        UnixChannel(SocketHandle(sock, "unix pair"), framing_named("u32"))
        for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    )
    return ours, theirs


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock
