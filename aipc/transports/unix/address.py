"""Unix socket addresses, connecting and binding: the common base of the stream, sequenced-packet and datagram kinds (unix(7)).

A name is a path, or an @ and an abstract name.
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
    """Return the URL's path, or its abstract name behind a zero byte. AddressError if it has neither."""
    if address.authority or address.path in ("", "@"):
        scheme = address.scheme
        raise address.no_path(f"{scheme}:/run/app.sock, or an abstract name, as in {scheme}:@name")
    return kernel_name(address.path, address.url)


def kernel_name(name: str, where: str) -> str:
    """Return a path unchanged, and @name in the kernel's form, behind a zero byte. AddressError if it cannot be a name."""
    if not name.startswith("@"):
        if not name or "\0" in name:
            raise AddressError(f"{where}: {name!r} must be a path, or an abstract name such as @name")
        return name
    if not 1 < len(os.fsencode(name)) <= LONGEST_SOCKET_PATH + 1:  # its zero byte stands for the @
        raise AddressError(f"{where}: an abstract name has at most {LONGEST_SOCKET_PATH} bytes, and at least 1")
    return "\0" + name[1:]


def shown_name(name: str | bytes | None) -> str | None:
    """Return the kernel's name of a socket in the form that `kernel_name` takes; None if no other process could use it."""
    if isinstance(name, bytes):
        return "@" + os.fsdecode(name[1:]) if name else None
    if not name or name.startswith("/proc/self/fd/"):  # bound by `short_path`
        return None
    return name


def credentials(sock: socket.socket) -> Credentials:
    """Return the process that connected or listened, as it was at that time (SO_PEERCRED)."""
    pid, uid, gid = rights.UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, rights.UCRED.size))
    return Credentials(pid or None, uid, gid)


def pidfd(sock: socket.socket) -> int:
    """Return a pidfd of that process, close-on-exec; ESRCH if it has been reaped. The caller closes it."""
    return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)


def new_socket(kind: socket.SocketKind) -> socket.socket:
    """Make a non-blocking Unix socket."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.setblocking(False)
    return sock


async def connect(address: Address, sock: socket.socket) -> None:
    """Connect `sock`. ObjectMissing, NobodyListens, WrongObject or AccessDenied if that fails.

    Waits while the listener's backlog is full. Cancelled: not connected.
    """
    # A full backlog is EAGAIN without an event to wait for (connect(2)), so this polls.
    opening = AddressHandle(address.url)
    try:
        await opening.polling.attempt(_connect, sock, socket_address(address), address.url)
    finally:
        opening.close()


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
        raise os_error(errno.ECONNREFUSED, name, "the socket file exists, but nobody listens on it") from None
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
    """Bind `sock` and listen. An error or a cancellation closes it. `wrap` makes a channel of each connection."""
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
    """Do nothing: the socket has no file, or leaves its file."""


async def bind(path: str, name: str, sock: socket.socket, *, mode: int, exclusive: bool) -> Callable[[], None]:
    """Bind `sock`, and return a function that removes the file, and never raises. Cancelled: nothing was made.

    A stale socket file is replaced; with `exclusive` not even that. ObjectExists if a live process owns the path, WrongObject if it
    is not a socket: neither is ever removed. The file has exactly `mode`, whatever the umask.
    """
    opening = AddressHandle(name)
    try:
        return await opening.polling.attempt(_bind, sock, path, name, mode, exclusive)
    finally:
        opening.close()


def _bind(sock: socket.socket, path: str, name: str, mode: int, exclusive: bool) -> Callable[[], None]:
    """Bind, and return a function that removes the file. BlockingIOError while another process binds there."""
    if not path or path.startswith("\0"):
        sock.bind(path)  # for an empty path the kernel picks an abstract name (autobind, unix(7))
        return keep
    with short_path(path) as short, path_reserved(path, name):
        place = os.path.abspath(path)  # this process may change its directory
        if os.path.lexists(path):
            _remove_stale(path, short, name, exclusive)
        os.fchmod(sock.fileno(), mode)  # bind(2) applies it, less the umask: never more permissions than asked
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
        raise WrongObject(errno.ENOTSOCK, f"{name}: {path} exists and is not a socket; it was left alone")
    if exclusive:
        raise os_error(errno.EEXIST, name, "the file exists, and exclusive was asked for")
    if socket_in_use(short):
        raise os_error(errno.EADDRINUSE, name, "another process has this socket open; it was left alone")
    os.unlink(path)
