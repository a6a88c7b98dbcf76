"""Sockets and FIFOs: who listens, who is connected, and who does not read."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Sequence

from aipc._address import Address
from aipc._sys.proc.inet_sockets import Host, InetSocket
from aipc._sys.proc.unix_diag import UnixSocket
from aipc._sys.proc.unix_sockets import bound_sockets
from aipc.transports.inet.address import endpoint

from .inspection import ConnectionInfo, Inspection, found, process
from .machine import Machine

_MUCH = 4096
"""Unread bytes from which on a peer is said not to read."""


def unix_socket(address: Address, machine: Machine) -> Inspection:
    """The sockets bound to a path or an abstract name, and the connections that were accepted there."""
    path, file = address.path, None
    if not path.startswith("@"):
        path, status = os.path.abspath(path), os.stat(path)
        file = status.st_dev, status.st_ino & 0xFFFFFFFF
    everywhere, pids = machine.unix_sockets, machine.users.sockets
    here = [one for one in everywhere.values() if one.path == path or (file and one.file == file)]
    inodes = [one.inode for one in here] or bound_sockets().get(path, [])
    listeners = [one for one in here if one.listens]
    connections = [_unix_connection(one, machine) for one in here if one.peer]
    holders = [pid for inode in [one.inode for one in listeners] or inodes for pid in pids.get(inode, ())]
    pending = sum(one.waiting for one in listeners)
    state = {"sockets": len(inodes), "pending": pending} if listeners else {"sockets": len(inodes)}
    if not inodes and not path.startswith("@") and stat.S_ISSOCK(os.stat(path).st_mode):
        findings = ["stale: no process has this socket; `aipc.listen` replaces it, `aipc remove` removes it"]
    else:
        findings = [*_pending(pending, holders), *_unread(connections)]
    limits = {"pending": sum(one.most for one in listeners)} if listeners else {}
    return found(address, holders, connections=connections, state=state, limits=limits, findings=findings)


def _unix_connection(accepted: UnixSocket, machine: Machine) -> ConnectionInfo:
    pids = machine.users.sockets
    other = machine.unix_sockets.get(accepted.peer)
    server, client = process(pids.get(accepted.inode, ())), process(pids.get(accepted.peer, ()))
    return ConnectionInfo(server, client, accepted.waiting, 0 if other is None else other.waiting)


def tcp_socket(address: Address, machine: Machine) -> Inspection:
    """The listeners at a host and port, and the connections that they have accepted."""
    host, port = endpoint(address)
    hosts = _numbers(host)
    sockets = machine.inet_sockets("tcp")
    at = [one for one in sockets if one.local[1] == port and (one.local[0].is_unspecified or one.local[0] in hosts)]
    listeners = [one for one in at if one.listens]
    pids = machine.users.sockets
    ends = {(one.local, one.remote): one for one in sockets}
    connections = [_tcp_connection(one, ends.get((one.remote, one.local)), machine) for one in at if not one.listens]
    pending = sum(one.unread for one in listeners)
    holders = [pid for one in listeners for pid in pids.get(one.inode, ())]
    findings = [*_pending(pending, holders), *_unread(connections)] if listeners else ["nobody listens there, on this machine"]
    return found(address, holders, connections=connections, state={"sockets": len(at), "pending": pending}, findings=findings)


def _tcp_connection(accepted: InetSocket, other: InetSocket | None, machine: Machine) -> ConnectionInfo:
    pids = machine.users.sockets
    client = None if other is None else process(pids.get(other.inode, ()))
    unread = accepted.unsent if other is None else max(other.unread, accepted.unsent)
    return ConnectionInfo(process(pids.get(accepted.inode, ())), client, accepted.unread, unread)


def udp_socket(address: Address, machine: Machine) -> Inspection:
    """The sockets that receive at a host and port."""
    host, port = endpoint(address, address.options.get("bind"), protocol="udp")
    hosts = _numbers(host)
    sockets = [
        one
        for one in machine.inet_sockets("udp")
        if one.local[1] == port and (one.local[0].is_unspecified or one.local[0] in hosts)
    ]
    holders = [pid for one in sockets for pid in machine.users.sockets.get(one.inode, ())]
    state = {
        "sockets": len(sockets),
        "unread": sum(one.unread for one in sockets),
        "dropped": sum(one.drops for one in sockets),
    }
    findings = [] if sockets else ["nobody receives there, on this machine"]
    if state["dropped"]:
        findings.append(f"{state['dropped']:,} datagrams came faster than they were read, and were dropped")
    return found(address, holders, state=state, findings=findings)


def _numbers(host: str) -> list[Host]:
    return [ipaddress.ip_address(found[4][0].split("%")[0]) for found in socket.getaddrinfo(host, None)]  # type: ignore[union-attr]


def _pending(pending: int, holders: Sequence[int]) -> Iterator[str]:
    if pending:
        who = f"process {holders[0]}" if holders else "the listener"
        yield f"{pending} {'connection waits' if pending == 1 else 'connections wait'} until {who} accepts"


def _unread(connections: Sequence[ConnectionInfo]) -> Iterator[str]:
    for one in connections:
        for who, other, unread in (
            (one.server, one.client, one.server_unread),
            (one.client, one.server, one.client_unread),
        ):
            if unread >= _MUCH:
                name = f"process {who.pid}" if who else "a process elsewhere"
                sender = f"process {other.pid}" if other else "the other side"
                yield f"{name} does not read: {unread:,} bytes of {sender} wait for it"


def fifo(address: Address, machine: Machine) -> Inspection:
    """A FIFO: who has it open."""
    users = machine.users_of_file(address.path)
    return found(address, users=users, findings=[] if users else ["no process has it open"])
