"""What a server has at a URL, without changing it: for `aipc.inspect`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import anyio

from aipc._address import Address

from .errors import explain
from .links.connection import Connection
from .links.dialing import dial
from .scripts import pack
from .server import Place, Server, place

_GROUP = b"aipc"
_PATIENCE = 5.0
_SECURITY = ("cafile", "certfile", "keyfile", "server_hostname", "sentinel_password")


class Client(NamedTuple):
    """A process that holds or waits for a lock, and its machine."""

    pid: int
    host: str


class Looked(NamedTuple):
    """What is there. `state` is empty if nothing is: a free lock, or a queue that nobody has used."""

    state: Mapping[str, int]
    holders: tuple[Client, ...] = ()
    waiters: tuple[Client, ...] = ()


def look(address: Address) -> Looked:
    """Ask the server, on a connection and a loop of its own in a thread: this waits for the answer. Errors as of opening; TimeoutError after 5 s."""
    security = {name: address.options.get(name) for name in _SECURITY}
    number = address.options.get("db")
    where = place(address, security, None if number is None else int(number), address.options.get("name"))
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, _look, where).result()


async def _look(where: Place) -> Looked:
    connection = await dial(where.server)
    try:
        with anyio.fail_after(_PATIENCE):
            return await _looked(connection, where)
    finally:
        connection.close()


async def _looked(connection: Connection, where: Place) -> Looked:
    kind, queued = await _ask(connection, where.server, [pack("TYPE", where.key()), pack("ZCARD", where.key("queue"))])
    if kind == b"zset" or queued:
        names = [pack("ZRANGE", where.key(suffix), 0, -1) for suffix in ("", "queue")]
        return _lock(*await _ask(connection, where.server, names))
    if kind == b"stream":
        return _queue(*await _ask(connection, where.server, _of_queue(where)))
    return Looked({})


async def _ask(connection: Connection, server: Server, commands: Iterable[bytes]) -> list[Any]:
    commands = list(commands)
    await connection.channel.send(b"".join(commands))
    replies: list[Any] = []
    while len(replies) < len(commands):
        replies += await connection.read()
    for reply in replies:
        if isinstance(reply, Exception):
            raise explain(reply, server.url)
    return replies


def _lock(units: list[bytes], queued: list[bytes]) -> Looked:
    holders, waiters = (tuple(dict.fromkeys(map(_client, names))) for names in (units, queued))
    return Looked({"held": len(units), "waiting": len(queued)}, holders, waiters)


def _client(name: bytes) -> Client:
    """From `link:number:pid:host#…`."""
    _, _, pid, host = name.decode(errors="replace").split("#")[0].split(":", 3)
    return Client(int(pid), host)


def _of_queue(where: Place) -> list[bytes]:
    key: Callable[..., str] = where.key
    return [
        pack("XLEN", key()),
        pack("XINFO", "GROUPS", key()),
        pack("ZCARD", key("back")),
        pack("ZCARD", key("delayed")),
        pack("XLEN", key("dead")),
        pack("ZCARD", key("takers")),
        pack("ZCARD", key("senders")),
    ]


def _queue(length: int, groups: list[list[Any]], back: int, delayed: int, dead: int, takers: int, senders: int) -> Looked:
    pending = sum(group[group.index(b"pending") + 1] for group in groups if _GROUP in group)
    return Looked(
        {
            "ready": length - pending + back,
            "leased": pending - back,
            "delayed": delayed,
            "dead": dead,
            "waiting_receivers": takers,
            "waiting_senders": senders,
        }
    )


def is_here(client: Client) -> bool:
    """Whether that process is one of this machine."""
    return client.host == socket.gethostname() and os.path.exists(f"/proc/{client.pid}")
