"""Makes a connection: finds where the server is by now, connects, logs in, and makes the scripts known where they are run."""

from __future__ import annotations

from typing import Any

import anyio

from ..errors import NotReady
from ..scripts import asking, loading, pack
from ..server import Server
from .connection import Connection, connected, exchange
from .locating import locate

_DIALING = 5.0
"""Seconds for a connection and its greeting."""


async def dial(server: Server, replaces: tuple[str, int] = ("", 0), *, scripts: bool = False) -> Connection:
    """Connect and log in. `replaces`: URL and number of the connection before, of which that server must do nothing more.

    `scripts`: make those known to the server that it does not know, 90 KB in all.

    Errors as of the channel, AccessDenied for a wrong password, BrokenResourceError for a server that is not ready or does not
    answer in 5 s. Cancelled: nothing is open.
    """
    with anyio.move_on_after(_DIALING):
        url, imports = await locate(server)
        connection = await connected(url, server)
        connection.imports = imports
        known = await _greet(connection, server, replaces, [asking()] if scripts else [])
        missing = [command for answer in known for command in loading(answer)]
        if missing:
            await exchange(connection, missing, server)
        return connection
    raise NotReady(f"{server.url}: no answer in {_DIALING:.0f} s")


async def _greet(connection: Connection, server: Server, replaces: tuple[str, int], questions: list[bytes]) -> list[Any]:
    """Log in, and be the only connection. Gives the answers to the questions."""
    url, number = replaces
    optional = (
        [pack("CLIENT", "KILL", "ID", number)] if number and url == connection.url else []
    )  # a new server does not know it
    commands = [pack("SELECT", server.db), *questions, pack("ROLE"), pack("CLIENT", "ID")]
    replies = await exchange(connection, [*commands, *optional], server, len(optional))
    _, *answers, role, connection.number = replies[: len(commands)]
    if server.master and role[0] != b"master":
        connection.close()
        raise NotReady(f"{server.url}: {connection.url} is no master any more, or not yet")
    return answers
