"""Descriptors and credentials beside the bytes of a Unix socket (unix(7), cmsg(3)): plain calls."""

from __future__ import annotations

import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aipc.exceptions import InvalidMessage, LimitExceeded

MOST_DESCRIPTORS = 253
"""The most descriptors that one message may carry (SCM_MAX_FD)."""

UCRED = struct.Struct("iII")
"""A process: pid, uid, gid (unix(7))."""

# Plain numbers: to combine socket's own flags, which are an Enum, takes as long as the system call.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
CUT = int(socket.MSG_CTRUNC)
"""In `flags`: not all descriptors came, and so none."""

_SPACE = socket.CMSG_SPACE(UCRED.size) + socket.CMSG_LEN(MOST_DESCRIPTORS * array("i").itemsize)


class Received(NamedTuple):
    """The result of one recvmsg(2). `flags` may have MSG_TRUNC (data) and MSG_CTRUNC (descriptors, which are then all closed)."""

    data: bytes
    fds: tuple[int, ...]
    flags: int
    sender: Any
    ancillary: Sequence[tuple[int, int, bytes]]


def receive(sock: socket.socket, size: int, flags: int = 0) -> Received:
    """Receive up to `size` bytes, with the descriptors that came with them, all close-on-exec.

    socket.recv_fds would return inheritable descriptors.
    """
    data, ancillary, came, sender = sock.recvmsg(size, _SPACE, flags | _CLOSE_ON_EXEC)
    return Received(data, _taken(ancillary, came) if ancillary else (), came, sender, ancillary)


def receive_into(sock: socket.socket, space: memoryview) -> tuple[int, tuple[int, ...], int]:
    """Like `receive`, into `space`: return the number of bytes, the descriptors and the flags."""
    count, ancillary, came, _ = sock.recvmsg_into([space], _SPACE, _CLOSE_ON_EXEC)
    return count, _taken(ancillary, came) if ancillary else (), came


def send(sock: socket.socket, pieces: Iterable[bytes | bytearray | memoryview], fds: Sequence[int], *to: Any) -> int:
    """Send `pieces` in one message with `fds`, which stay open here; return how many bytes the kernel took.

    LimitExceeded for more than 253, InvalidMessage if one is not open.
    """
    if len(fds) > MOST_DESCRIPTORS:
        raise LimitExceeded(f"{len(fds):,} descriptors; one message carries at most {MOST_DESCRIPTORS}")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
    try:
        return sock.sendmsg(pieces, ancillary, socket.MSG_NOSIGNAL, *to)
    except OSError as error:
        if error.errno == errno.EBADF and sock.fileno() >= 0:
            raise InvalidMessage(f"fds={list(fds)}: not all of them are open") from None
        raise


def credentials(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, int, int] | None:
    """Return the sender's pid, uid and gid, if SO_PASSCRED was set and the kernel knew them at the time of sending."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, gid = UCRED.unpack(data)
            return (pid, uid, gid) if pid else None
    return None


def _taken(ancillary: Sequence[tuple[int, int, bytes]], flags: int) -> tuple[int, ...]:
    fds = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & CUT:  # unknown which are missing
        close(fds)
        return ()
    return tuple(fds)


def close(fds: Iterable[int]) -> None:
    """Close descriptors that were not received."""
    for fd in fds:
        os.close(fd)
