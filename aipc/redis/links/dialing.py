"""Makes a connection: finds where the server is by now, connects, logs in, and makes the scripts known where they are run."""

from __future__ import annotations

import anyio

from ..errors import NotReady
from ..scripts import loading, pack
from ..server import Server
from .connection import Connection, connected, exchange
from .locating import locate

_DIALING = 5.0
"""Seconds for a connection and its greeting."""


async def dial(server: Server, replaces: tuple[str, int] = ("", 0), *, scripts: bool = False) -> Connection:
    """Connect and log in. `replaces`: URL and number of the connection before, of which that server must do nothing more.

    `scripts`: make them known to the server, 83 KB.

    Errors as of the channel, AccessDenied for a wrong password, BrokenResourceError for a server that is not ready or does not
    answer in 5 s. Cancelled: nothing is open.
    """
    with anyio.move_on_after(_DIALING):
        url, imports = await locate(server)
        connection = await connected(url, server)
        connection.imports = imports
        await _greet(connection, server, replaces, loading() if scripts else [])
        return connection
    raise NotReady(f"{server.url}: no answer in {_DIALING:.0f} s")


async def _greet(connection: Connection, server: Server, replaces: tuple[str, int], first: list[bytes]) -> None:
    url, number = replaces
    optional = (
        [pack("CLIENT", "KILL", "ID", number)] if number and url == connection.url else []
    )  # a new server does not know it
    commands = [pack("SELECT", server.db), *first, pack("ROLE"), pack("CLIENT", "ID")]
    replies = await exchange(connection, [*commands, *optional], server, len(optional))
    *_, role, connection.number = replies[: len(commands)]
    if server.master and role[0] != b"master":
        connection.close()
        raise NotReady(f"{server.url}: {connection.url} is no master any more, or not yet")
