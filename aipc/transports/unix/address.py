"""Where a Unix socket is, and getting there: what the stream, sequenced-packet and datagram kinds share (unix(7)).

A name is a path or, behind an @, an abstract name.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from functools import partial

from aipc._address import Address
from aipc._io.errors import os_error
from aipc._io.handle import AddressHandle, ListenerHandle
from aipc._sys import rights
from aipc._sys.files import LONGEST_SOCKET_PATH, path_reserved, remove_same_file, short_path, socket_in_use
from aipc.abc import Credentials
from aipc.exceptions import AddressError, WrongObject

from ..listener import LONGEST_BACKLOG, SocketListener, TransportT_co

TAKEN = "the socket there is connected to another one, and receives from that one only"
_SO_PEERPIDFD = 77
_KINDS = {socket.SOCK_STREAM: "stream", socket.SOCK_SEQPACKET: "sequenced-packet", socket.SOCK_DGRAM: "datagram"}


def socket_address(address: Address) -> str:
    """The URL's path, or its abstract name behind a zero byte. AddressError if there is neither."""
    if address.authority or address.path in ("", "@"):
        scheme = address.scheme
        raise address.error(f"needs a path, as in {scheme}:/run/app.sock, or an abstract name, as in {scheme}:@name")
    return kernel_name(address.path, address.url)


def kernel_name(name: str, where: str) -> str:
    """A path as it is; @name as the kernel writes it: behind a zero byte. AddressError if it can't be one."""
    if not name.startswith("@"):
        if not name or "\0" in name:
            raise AddressError(f"{where}: {name!r} must be a path, or an abstract name such as @name")
        return name
    if not 1 < len(os.fsencode(name)) <= LONGEST_SOCKET_PATH + 1:  # its zero byte stands for the @
        raise AddressError(f"{where}: an abstract name has at most {LONGEST_SOCKET_PATH} bytes, and at least 1")
    return "\0" + name[1:]


def shown_name(name: str | bytes | None) -> str | None:
    """What the kernel calls a socket, as `kernel_name` takes it; None if it has no name that another process could use."""
    if isinstance(name, bytes):
        return "@" + os.fsdecode(name[1:]) if name else None
    if not name or name.startswith("/proc/self/fd/"):  # bound by `short_path`
        return None
    return name


def credentials(sock: socket.socket) -> Credentials:
    """The process that connected, or listened, as it was then (SO_PEERCRED)."""
    pid, uid, gid = rights.UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, rights.UCRED.size))
    return Credentials(pid or None, uid, gid)


def pidfd(sock: socket.socket) -> int:
    """A pidfd of that process, close-on-exec; ESRCH if it has been reaped. The caller closes it."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)


def new_socket(kind: socket.SocketKind) -> socket.socket:
    """A Unix socket, non-blocking."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.setblocking(False)
    return sock


async def connect(address: Address, sock: socket.socket) -> None:
    """Connect `sock`. ObjectMissing, NobodyListens, WrongObject or AccessDenied say why it can't.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    # A full backlog is EAGAIN with nothing to wait for (connect(2)), so this one is polled.
    place = AddressHandle(address.url)
    try:
        await place.polling.attempt(_connect, sock, socket_address(address), address.url)
    finally:
        place.close()


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
        raise os_error(errno.ECONNREFUSED, name, "the socket file is there, but nobody listens on it") from None
    except OSError as error:
        if error.errno == errno.EPROTOTYPE:
            raise WrongObject(errno.EPROTOTYPE, f"{name}: a socket of another kind, not a {_kind(sock)}") from None
        if error.errno == errno.EPERM and sock.type == socket.SOCK_DGRAM:
            raise os_error(errno.EPERM, name, TAKEN) from None
        raise


def _kind(sock: socket.socket) -> str:
    return _KINDS[socket.SocketKind(sock.type)]


async def listen(
    address: Address,
    sock: socket.socket,
    wrap: Callable[[socket.socket], TransportT_co],
    *,
    backlog: int,
    max_connections: int | None,
    mode: int,
    exclusive: bool,
    unlink: bool,
) -> SocketListener[TransportT_co]:
    """Bind and listen with `sock`, which is closed if that fails or is cancelled; `wrap` makes a channel of each connection."""
    forget = keep
    try:
        forget = await bind(socket_address(address), address.url, sock, mode=mode, exclusive=exclusive)
        sock.listen(min(backlog, LONGEST_BACKLOG))
        handle = ListenerHandle(sock, address.url)
    except BaseException:
        forget()
        sock.close()
        raise
    return SocketListener(handle, wrap, forget if unlink else keep, max_connections=max_connections)


def keep() -> None:
    """What to do about the file of a socket that has none, or leaves it."""


async def bind(path: str, name: str, sock: socket.socket, *, mode: int, exclusive: bool) -> Callable[[], None]:
    """Bind `sock`, and say how to remove the file again, which never raises. Cancelled: nothing was made.

    A stale socket file is taken over; with `exclusive` not even that. ObjectExists if a live process owns the path;
    WrongObject if it is not a socket: neither is ever removed. `mode` is the file's, whatever the umask.
    """
    place = AddressHandle(name)
    try:
        return await place.polling.attempt(_bind, sock, path, name, mode, exclusive)
    finally:
        place.close()


def _bind(sock: socket.socket, path: str, name: str, mode: int, exclusive: bool) -> Callable[[], None]:
    """Bind, and say how to remove the file again. BlockingIOError while another process is at it there."""
    if not path or path.startswith("\0"):
        sock.bind(path)  # an empty one: the kernel picks an abstract name (autobind, unix(7))
        return keep
    with short_path(path) as short, path_reserved(path, name):
        place = os.path.abspath(path)  # wherever this process may be by then
        if os.path.lexists(path):
            _remove_stale(path, short, name, exclusive)
        os.fchmod(sock.fileno(), mode)  # bind(2) takes it over, less the umask: never more open than asked, even briefly
        sock.bind(short)
        forget = partial(remove_same_file, place, os.lstat(path))
        try:
            os.chmod(path, mode)
        except BaseException:
            forget()
            raise
    return forget


def _remove_stale(path: str, short: str, name: str, exclusive: bool) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise WrongObject(errno.ENOTSOCK, f"{name}: {path} is there and not a socket; it was left alone")
    if exclusive:
        raise os_error(errno.EEXIST, name, "the file exists, and exclusive was asked for")
    if socket_in_use(short):
        raise os_error(errno.EADDRINUSE, name, "another process has this socket open; it was left alone")
    os.unlink(path)
