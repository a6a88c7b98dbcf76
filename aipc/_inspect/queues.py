"""Queues of messages: how full they are, and who waits for a message, or for room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from aipc._address import Address
from aipc._sys.posix import queue as posix
from aipc._sys.posix.name import name_of
from aipc._sys.sysv import queue as sysv
from aipc._sys.sysv import tables
from aipc._sys.sysv.key import key_of, object_name

from .inspection import Inspection, found
from .machine import Machine, alive

_NEARLY = 0.9
"""The part of its bytes from which on a System V queue counts as full: how long the next message is, nobody knows."""


def sysv_queue(address: Address, machine: Machine) -> Inspection:
    """A System V queue. It has no holder; who used it last is a user."""
    project = address.options.get("project")
    key = key_of(address, None if project is None else int(project, 0))
    row = next((row for row in tables.rows("sysv-mq") if key is not None and row["key"] == key & 0xFFFFFFFF), None)
    if row is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    name = object_name("queue", row["id"])
    receivers = {*machine.asleep(row["id"], "msgrcv"), *machine.waiting(f"{name} in")}
    senders = {*machine.asleep(row["id"], "msgsnd"), *machine.waiting(f"{name} out")}
    state = {"messages": row["qnum"], "bytes": row["cbytes"], "last_sender": row["lspid"], "last_receiver": row["lrpid"]}
    state |= {name: row[time] for name, time in (("last_send", "stime"), ("last_receive", "rtime")) if row[time]}
    most = _most_bytes(key, row)
    return found(
        address,
        waiters=receivers | senders,
        users=alive([row["lspid"], row["lrpid"]]),
        state=state,
        limits={"bytes": most},
        findings=_stuck(sorted(senders), sorted(receivers), row["qnum"], full=row["cbytes"] > _NEARLY * most),
    )


def _most_bytes(key: int | None, row: dict[str, int]) -> int:
    """The queue's own limit, or that of new queues if this one may not be read."""
    try:
        return sysv.Queue(key, 0, 0, 1).stat().max_bytes
    except PermissionError:
        return max(int(Path("/proc/sys/kernel/msgmnb").read_text()), row["cbytes"])


def posix_queue(address: Address, machine: Machine) -> Inspection:
    """A POSIX queue. Tasks of aipc's wait for its descriptor, and so are only seen as users."""
    queue = posix.attach(name_of(address, posix.LONGEST_NAME))
    try:
        status = os.fstat(queue.fd)
        messages, most, size = queue.messages(), queue.max_messages, queue.max_message_size
    finally:
        queue.close()
    identity = status.st_dev, status.st_ino
    users = machine.users.files.get(identity, [])
    receivers, senders = (machine.asleep_in_file(identity, call) for call in ("mq_receive", "mq_send"))
    return found(
        address,
        waiters=[*receivers, *senders],
        users=users,
        state={"messages": messages},
        limits={"messages": most, "message_size": size},
        findings=_stuck(senders, receivers, messages, full=messages == most),
    )


def _stuck(senders: list[int], receivers: list[int], messages: int, *, full: bool) -> Iterator[str]:
    if senders or (full and not receivers):
        who = f"; processes {', '.join(map(str, senders))} wait for room" if senders else ""
        yield f"{'full' if full else 'no room for the next message'}: nobody receives{who}"
    if receivers:
        numbers = ", ".join(map(str, receivers))
        what = "a message of another type" if messages else "a message"
        yield f"{'process' if len(receivers) == 1 else 'processes'} {numbers} {'waits' if len(receivers) == 1 else 'wait'} for {what}"
