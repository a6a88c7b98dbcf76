"""What a server is, and how it is configured: for `aipc doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import anyio

from aipc._address import Address, Secret, options

from .links.connection import exchange
from .links.dialing import dial
from .scripts import pack
from .server import Server, place

_PINGS = 20
_PATIENCE = 5.0
_OPTIONS = frozenset({"db", "name", "cafile", "certfile", "keyfile", "server_hostname", "sentinel_password"})


class Checkup(NamedTuple):
    """`settings` has what CONFIG GET gives, and is empty where that is forbidden. `ping` is the median, in seconds."""

    url: str
    version: str
    role: str
    settings: Mapping[str, str]
    ping: float


def check_up(address: Address) -> Checkup:
    """Ask the server, on a loop of its own: this waits for the answers. Errors as of opening; TimeoutError after 5 s."""
    chosen = options(address, _OPTIONS, {})
    number, name = chosen.pop("db", None), chosen.pop("name", None)
    return anyio.run(_check_up, place(address, chosen, number, name).server)


async def _check_up(server: Server) -> Checkup:
    with anyio.fail_after(_PATIENCE):
        connection = await dial(server)
        try:
            known = Server(server.url, server.db, server.user, Secret(""))  # it has the password already
            names = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "min-replicas-to-write")
            asked = [pack("INFO", "server"), pack("ROLE"), *(pack("CONFIG", "GET", name) for name in names)]
            info, role, *pairs = await exchange(connection, asked, known, optional=len(names))
            times = []
            for _ in range(_PINGS):
                begin = perf_counter()
                await exchange(connection, [pack("PING")], known)
                times.append(perf_counter() - begin)
        finally:
            connection.close()
    return Checkup(connection.url, _version(info), role[0].decode(), _settings(pairs), median(times))


def _version(info: bytes) -> str:
    lines = dict(line.partition(":")[::2] for line in info.decode().splitlines())
    return lines.get("valkey_version") or lines["redis_version"]


def _settings(pairs: list[Any]) -> dict[str, str]:
    return {pair[0].decode(): pair[1].decode() for pair in pairs if not isinstance(pair, Exception) and pair}
