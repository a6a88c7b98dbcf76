"""`aipc.inspect`: what the kernel knows of the object behind a URL, without opening a channel or taking a lock."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import closing
from typing import TypeAlias

from aipc._address import Address, parse
from aipc._io.errors import naming
from aipc._opening.openers import REDIS
from aipc.exceptions import UnsupportedOperation

from .inspection import Inspection
from .machine import Machine

Look: TypeAlias = Callable[[Address, Machine], Inspection]

SCHEMES: dict[str, str] = {
    "flock": "locks:flock",
    "fcntl": "locks:fcntl",
    "sysv-sem": "locks:sysv_semaphore",
    "posix-sem": "locks:posix_semaphore",
    "sysv-mq": "queues:sysv_queue",
    "posix-mq": "queues:posix_queue",
    "unix": "sockets:unix_socket",
    "unix+seqpacket": "sockets:unix_socket",
    "unix+dgram": "sockets:unix_socket",
    "shm": "sockets:unix_socket",
    "tcp": "sockets:tcp_socket",
    "tls": "sockets:tcp_socket",
    "udp": "sockets:udp_socket",
    "fifo": "sockets:fifo",
    "jobs": "services:jobs",
    **dict.fromkeys(REDIS, "services:redis"),
}


def inspect(url: str) -> Inspection:
    """Return what there is to know of an object, by URL. Nothing is opened for use, taken, or changed.

    Other users' processes are seen by root only, and tasks of aipc's that wait only in processes of the same user. Errors:
    AddressError for an invalid URL, ObjectMissing if there is no such object, AccessDenied if it cannot be read,
    UnsupportedOperation for a scheme whose object the kernel does not show. Of `redis:` the server is asked, which may take seconds.
    """
    with closing(Machine()) as machine:
        return inspected(url, machine)


def inspected(url: str, machine: Machine) -> Inspection:
    """`inspect`, of a machine of which several objects are inspected."""
    address = parse(url)
    if address.scheme not in SCHEMES:
        raise UnsupportedOperation(f"{url}: inspect knows {', '.join(SCHEMES)}")
    module, _, name = SCHEMES[address.scheme].partition(":")
    look: Look = getattr(importlib.import_module(f"aipc._inspect.{module}"), name)
    with naming(url):
        return look(address, machine)
