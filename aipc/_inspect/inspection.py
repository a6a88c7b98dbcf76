"""What `aipc.inspect` returns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import NamedTuple

from aipc._address import Address
from aipc._opening.openers import CHANNELS, LISTENERS, LOCKS, opener_of
from aipc._sys.proc.file_users import command_of


class ProcessInfo(NamedTuple):
    """A process: its number and its command line, which is empty if it has ended."""

    pid: int
    command: str


class ConnectionInfo(NamedTuple):
    """A connection to a listener's socket: a process at each end, None if it is unknown, and the bytes that it has not read."""

    server: ProcessInfo | None
    client: ProcessInfo | None
    server_unread: int
    client_unread: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """An object as it is now.

    holders      processes that hold the lock, listen at the socket, or have leased a job
    waiters      processes that wait for it: asleep in the kernel, or with a task of aipc's
    users        processes that have it open or attached, or used it last
    connections  of a socket that listens, those that other processes have accepted, and their other ends on this machine
    state        numbers as of now, such as `messages`, `bytes`, `value`; times in whole seconds since 1970
    limits       numbers that `state` can't exceed
    options      the names of the options that the URL may have
    findings     what is probably wrong, or what its users wait for, in sentences
    """

    url: str
    holders: tuple[ProcessInfo, ...] = ()
    waiters: tuple[ProcessInfo, ...] = ()
    users: tuple[ProcessInfo, ...] = ()
    connections: tuple[ConnectionInfo, ...] = ()
    state: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def found(
    address: Address,
    holders: Collection[int] = (),
    waiters: Collection[int] = (),
    users: Collection[int] = (),
    *,
    connections: Collection[ConnectionInfo] = (),
    state: Mapping[str, int] | None = None,
    limits: Mapping[str, int] | None = None,
    findings: Iterable[str] = (),
) -> Inspection:
    """The result, with the processes' commands and the URL's options."""
    table = LOCKS if address.scheme in LOCKS else CHANNELS if address.scheme in CHANNELS else LISTENERS
    known = signature(opener_of(table, address)).parameters.values()
    return Inspection(
        address.url,
        processes(holders),
        processes(waiters),
        processes(users),
        tuple(connections),
        state or {},
        limits or {},
        tuple(sorted(one.name for one in known if one.kind is one.KEYWORD_ONLY)),
        tuple(findings),
    )


def processes(pids: Collection[int]) -> tuple[ProcessInfo, ...]:
    """Each once, in order; not those without a number here."""
    return tuple(ProcessInfo(pid, command_of(pid)) for pid in sorted(set(pids)) if pid > 0)


def process(pids: Collection[int]) -> ProcessInfo | None:
    """The first of them."""
    return next(iter(processes(pids)), None)
