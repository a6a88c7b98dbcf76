"""What a URL says of the server: where it is, who asks, which database, and the name of the object there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aipc._address import Address

_PORT = 6379


class Secret:
    """A password. Nothing shows it: not `repr`, nor a traceback with local variables."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The password, for the server only."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "***" if self._value else "''"


@dataclass(frozen=True)
class Server:
    """A server and how to log in. Equal ones share their connections."""

    url: str
    """Of the channel to it: `tcp://host:port`, `tls://host:port`, `unix:/path`."""
    db: int
    user: str
    password: Secret
    tls: tuple[tuple[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Place:
    """An object on a server: `redis://host:6379/0/name`."""

    server: Server
    name: str
    url: str
    """To be shown: without the password."""

    def key(self, suffix: str = "") -> str:
        """The object's own key; with a suffix one of those beside it, in the same slot of a cluster."""
        return f"{{{self.name}}}:{suffix}" if suffix else self.name


def place(address: Address, tls: Mapping[str, Any], db: int | None = None, name: str | None = None) -> Place:
    """Where that URL points. AddressError for what can't be meant."""
    login, _, where = address.authority.rpartition("@")
    user, colon, password = login.partition(":")
    if login and not colon:
        raise address.error("before the @ stands user:password, or :password, percent-encoded")
    if address.scheme == "redis+unix":
        url, path = _unix_url(address, where), ["" if db is None else str(db), name or ""]
    else:
        url, path = _inet_url(address, where), _path(address, db, name)
    database = _database(address, path[0])
    if not path[1]:
        raise address.error(
            "it names no object; one looks like redis://host:6379/0/name, or redis+unix:/run/redis.sock?db=0&name=jobs"
        )
    options = tuple(sorted((key, value) for key, value in tls.items() if value is not None))
    if options and address.scheme != "rediss":
        raise address.error(f"{options[0][0]} is an option of rediss: only")
    return Place(Server(url, database, user, Secret(password), options), path[1], address.url)


def _unix_url(address: Address, where: str) -> str:
    if where or not address.path.startswith("/"):
        raise address.error("it needs the server's socket, such as redis+unix:/run/redis.sock?db=0&name=jobs")
    return f"unix:{quote(address.path)}"


def _inet_url(address: Address, where: str) -> str:
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]"):
        host, port = where, str(_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise address.error("it needs the server's host, such as redis://127.0.0.1:6379/0/name")
    return f"{'tls' if address.scheme == 'rediss' else 'tcp'}://{host}:{port}"


def _path(address: Address, db: int | None, name: str | None) -> list[str]:
    if db is not None or name is not None:
        raise address.error("database and name stand in the path: redis://host:6379/0/name")
    number, _, rest = address.path.removeprefix("/").partition("/")
    return [number, rest]


def _database(address: Address, text: str) -> int:
    if text and not text.isdecimal():
        raise address.error(f"{text!r} is no number of a database; one looks like redis://host:6379/0/name")
    return int(text or 0)
