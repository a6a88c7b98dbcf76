"""Job queues in files, and objects on a Redis server."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from aipc._address import Address
from aipc._sys.proc.file_users import command_of
from aipc.exceptions import WrongObject
from aipc.services.jobs.tables import APPLICATION, LEASED

from .inspection import Inspection, ProcessInfo, found
from .machine import Machine, alive

if TYPE_CHECKING:
    from aipc.redis.looking import Client

_STATES = ("ready", "leased", "dead", "delayed")


def jobs(address: Address, machine: Machine) -> Inspection:
    """A job queue: its jobs by state, and the processes that have leased some."""
    os.stat(address.path)
    with closing(_opened(address)) as db:
        counts = dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        owners = db.execute(
            "SELECT owners.pid, count(*) FROM jobs JOIN owners ON owners.id = jobs.owner WHERE state = ? GROUP BY owners.pid",
            (LEASED,),
        ).fetchall()
        (most,) = db.execute("SELECT max_messages FROM limits").fetchone()
    state = {name: counts.get(number, 0) for number, name in enumerate(_STATES)}
    users = machine.users_of_file(address.path)
    holders = alive(pid for pid, _ in owners)
    findings = []
    if state["ready"] and not holders:
        findings.append(f"{state['ready']:,} jobs are ready, and no process has leased one")
    if state["dead"]:
        findings.append(f"{state['dead']:,} jobs failed too often: `aipc jobs list`, `aipc jobs retry`")
    if most and sum(state.values()) - state["dead"] >= most:
        findings.append("full: senders wait until a job is done")
    return found(address, holders, users=users, state=state, limits={"messages": most} if most else {}, findings=findings)


def _opened(address: Address) -> sqlite3.Connection:
    url = f"file:{os.path.abspath(address.path).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"
    try:
        alone = not os.path.exists(address.path + "-wal")
        db = sqlite3.connect(f"{url}?mode=ro{'&immutable=1' * alone}", uri=True, timeout=1)
        if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
            db.close()
            raise sqlite3.DatabaseError
    except sqlite3.DatabaseError as error:
        raise WrongObject(22, f"{address.url}: not a job queue") from error
    return db


def redis(address: Address, _: Machine) -> Inspection:
    """A queue or a lock on a server. Processes of other machines are called by these."""
    from aipc.redis.looking import look  # it needs hiredis

    looked = look(address)
    findings = [] if looked.state else ["nothing is stored there: a free lock, or a queue that nobody has used"]
    if looked.waiters and looked.holders:
        findings.append(
            f"{len(looked.waiters)} wait until process {looked.holders[0].pid} on {looked.holders[0].host} releases it"
        )
    if looked.state.get("waiting_senders"):
        findings.append("full: senders wait until a job is done")
    holders, waiters = (tuple(map(_named, clients)) for clients in (looked.holders, looked.waiters))
    return replace(found(address, state=looked.state, findings=findings), holders=holders, waiters=waiters)


def _named(client: Client) -> ProcessInfo:
    from aipc.redis.looking import is_here

    return ProcessInfo(client.pid, command_of(client.pid) if is_here(client) else f"on {client.host}")
