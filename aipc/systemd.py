"""Messages between a service and its manager: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

Plain calls that do not wait, and do nothing if no manager asked for them: a service may always call them.
"""

from __future__ import annotations

import os
import socket
from time import clock_gettime_ns

import anyio

from aipc._io.errors import translate
from aipc.exceptions import AddressError

_FIRST_FD = 3
_CLOCK_MONOTONIC = 1


def notify(*assignments: str) -> bool:
    """Send assignments, such as `READY=1`, to $NOTIFY_SOCKET in one datagram. False, and nothing sent, if that is unset.

    WouldBlock if the manager's queue is full, ObjectMissing or NobodyListens if the manager is gone. ValueError for a malformed
    assignment, or one with a line feed. AddressError for a $NOTIFY_SOCKET that is neither a path nor an abstract name.
    """
    for assignment in assignments:
        name, equals, _ = assignment.partition("=")
        if not (name and equals) or "\n" in assignment:
            raise ValueError(f"{assignment!r}: must be NAME=value, without a line feed")
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return False
    if where[0] not in "/@":
        raise AddressError(f"NOTIFY_SOCKET={where!r}: must be an absolute path, or @ and an abstract name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect("\0" + where[1:] if where[0] == "@" else where)
            sock.send("\n".join(assignments).encode(errors="surrogateescape"))
        except BlockingIOError:
            raise anyio.WouldBlock(f"NOTIFY_SOCKET={where}: the service manager's queue is full; try again later") from None
        except OSError as error:
            raise translate(error, f"NOTIFY_SOCKET={where}") from None
    return True


def ready(status: str | None = None) -> bool:
    """Report that startup, or a reload, is finished. `status` is a line for people."""
    return notify("READY=1", *_status(status))


def reloading(status: str | None = None) -> bool:
    """Report that a reload begins; `ready` ends it. Sends the time at which it began, as `Type=notify-reload` requires."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(_CLOCK_MONOTONIC) // 1000}", *_status(status))


def stopping(status: str | None = None) -> bool:
    """Report that the service begins to stop."""
    return notify("STOPPING=1", *_status(status))


def status(text: str) -> bool:
    """Send a line for people: `systemctl status` shows it."""
    return notify(f"STATUS={text}")


def watchdog() -> bool:
    """Report that the service is alive. Required within each `watchdog_interval()`; twice as often is usual."""
    return notify("WATCHDOG=1")


def _status(text: str | None) -> tuple[str, ...]:
    return () if text is None else (f"STATUS={text}",)


def watchdog_interval() -> float | None:
    """Return the seconds within which the manager expects the next `watchdog()`; None if it does not watch this process.

    AddressError for a malformed $WATCHDOG_USEC or $WATCHDOG_PID.
    """
    microseconds = _number("WATCHDOG_USEC")
    if not microseconds or _number("WATCHDOG_PID") not in (None, os.getpid()):
        return None
    return microseconds / 1e6


def listen_fds() -> list[tuple[int, str]]:
    """Return the sockets passed by socket activation: descriptor and name (`unknown` if it has none); [] if none were passed.

    They are made close-on-exec, and belong to the caller. Later calls return the same, because the variables stay. AddressError
    for malformed variables; OSError (EBADF) if a descriptor is not open.
    """
    count = _number("LISTEN_FDS")
    if not count or _number("LISTEN_PID") != os.getpid():
        return []
    names = os.environ.get("LISTEN_FDNAMES")
    labels = ["unknown"] * count if names is None else names.split(":")
    if len(labels) != count:
        raise AddressError(f"LISTEN_FDNAMES={names!r}: must name {count} descriptors, as LISTEN_FDS={count} says")
    fds = range(_FIRST_FD, _FIRST_FD + count)
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise translate(error, f"LISTEN_FDS={count}: descriptor {fd}") from None
    return list(zip(fds, labels, strict=True))


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise AddressError(f"{name}={text!r}: must be a number")
    return int(text)
