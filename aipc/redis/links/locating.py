"""Where a server is now: its sentinels know the master, any node of a cluster knows which one has a key."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import anyio

from aipc.exceptions import ObjectMissing

from ..errors import NotReady, SlotMoves, explain, kind_of
from ..scripts import pack
from ..server import Server
from .connection import GONE, connected, exchange

_EACH = 1.0
"""Seconds for each one that is asked."""
_REDIRECTIONS = 5


async def locate(server: Server) -> tuple[str, bool]:
    """The channel's URL, and whether the slot of the key is only on its way there. If nobody knows, the error of one that answered."""
    errors: list[Exception] = []
    for node in random.sample(server.nodes, len(server.nodes)):
        try:
            with anyio.fail_after(_EACH):
                return await (_master(server, node) if server.master else _owner(server, node))
        except TimeoutError:
            errors.append(NotReady(f"{node}: no answer in {_EACH:.0f} s"))
        except GONE as error:
            errors.append(error)
    if errors:
        raise min(errors, key=_of_little_use).with_traceback(None)
    return server.url, False


def _of_little_use(error: Exception) -> int:
    """How little an error tells: what lasts comes first, then what a cluster says of its state."""
    return 1 if isinstance(error, SlotMoves) else 2 * isinstance(error, (ConnectionError, NotReady))


async def _master(server: Server, sentinel: str) -> tuple[str, bool]:
    """What that sentinel says (https://redis.io/docs/latest/develop/reference/sentinel-clients/)."""
    asking = replace(server, user="", password=server.sentinel_password)
    address = await _answer(sentinel, pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", server.master), asking)
    if isinstance(address, Exception):
        raise explain(address, sentinel)
    if address is None:
        raise ObjectMissing(2, f"{sentinel}: this sentinel knows no master {server.master!r}")
    return server.channel(address[0].decode(), int(address[1])), False


async def _owner(server: Server, node: str) -> tuple[str, bool]:
    """Who has the key, from that node on (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/)."""
    imports = False
    for _ in range(_REDIRECTIONS):
        reply = await _answer(node, pack("EXISTS", server.key), server)
        if not isinstance(reply, Exception):
            return node, False
        imports = kind_of(reply) == "ASK"
        if not imports and kind_of(reply) != "MOVED":
            raise explain(reply, server.url)
        host, _, port = str(reply).split(" ")[2].rpartition(":")
        node = server.channel(host or node.partition("://")[2].rpartition(":")[0], int(port))
        if imports:
            break
    return node, imports


async def _answer(url: str, command: bytes, server: Server) -> Any:
    connection = await connected(url, server)
    try:
        return (await exchange(connection, [command], server, optional=1))[0]
    finally:
        connection.close()
