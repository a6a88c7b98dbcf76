"""What a URL says of the server: where it is, who asks, which database, and the name of the object there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from aipc._address import Address, Secret

_PORT, _SENTINELS_PORT = 6379, 26379
_FORMS = {
    "redis+unix": "redis+unix:/run/redis.sock?db=0&name=jobs",
    "redis-sentinel": "redis-sentinel://host1:26379,host2:26379/master/0/name",
    "redis-cluster": "redis-cluster://host1:6379,host2:6379/0/name",
}
"""What a URL looks like, where it is not `redis://host:6379/0/name`."""


@dataclass(frozen=True)
class Server:
    """A server and how to log in. Equal ones share their connections."""

    url: str
    """Of the channel to it: `tcp://host:port`, `tls://host:port`, `unix:/path`. With `nodes`, what errors call it."""
    db: int
    user: str
    password: Secret
    tls: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    nodes: tuple[str, ...] = ()
    """The channels to those who know where it is: sentinels, or nodes of a cluster."""
    master: str = ""
    """What the sentinels call it."""
    key: str = ""
    """In a cluster: it is the node that has this key."""
    sentinel_password: Secret = field(default_factory=lambda: Secret(""))

    def channel(self, host: str, port: int) -> str:
        """The URL of the channel to one of those that `nodes` tell of: over TLS, as to themselves."""
        scheme = self.nodes[0].partition(":")[0]
        return f"{scheme}://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{scheme}://{host}:{port}"


@dataclass(frozen=True)
class Place:
    """An object on a server: `redis://host:6379/0/name`."""

    server: Server
    name: str
    url: str
    """To be shown: without the password."""
    part: str = ""
    """Of an object that belongs to the one of that name."""

    def key(self, suffix: str = "") -> str:
        """The object's own key; with a suffix one of those beside it, in the same slot of a cluster."""
        rest = ":".join(filter(None, (self.part, suffix)))
        return f"{{{self.name}}}:{rest}" if rest else self.name

    def within(self, part: str) -> Place:
        """An object that belongs to this one, in the same slot."""
        return replace(self, part=part)


def place(address: Address, security: Mapping[str, Any], db: int | None = None, name: str | None = None) -> Place:
    """Where that URL points. AddressError for what can't be meant."""
    user, password, where = _login(address)
    if address.scheme == "redis+unix":
        path = ["" if db is None else str(db), name or ""]
    elif db is not None or name is not None:
        raise address.error(f"database and name stand in the path: {_form(address)}")
    else:
        path = address.path.removeprefix("/").split("/", 2 if _kind(address) == "redis-sentinel" else 1)
    *before, number, object_name = [*path, ""] if len(path) == 1 else path
    if not object_name:
        raise address.error(f"it names no object; one looks like {_form(address)}")
    tls, sentinel_password = _security(address, security)
    server = Server(_url(address, where), _database(address, number), user, password, tls, sentinel_password=sentinel_password)
    return Place(_among(address, server, where, before, object_name), object_name, address.url)


def _login(address: Address) -> tuple[str, Secret, str]:
    """User, password, and what stands behind them. An error's traceback shows none of them."""
    login, _, where = address.authority.rpartition("@")
    user, colon, password = login.partition(":")
    if login and not colon:
        del login, user
        raise address.error("before the @ stands user:password, or :password, percent-encoded")
    return user, Secret(password), where


def _security(address: Address, given: Mapping[str, Any]) -> tuple[tuple[tuple[str, Any], ...], Secret]:
    """The options of a TLS channel, and the sentinels' password. AddressError for what that scheme does not have."""
    options = {name: value for name, value in given.items() if value is not None}
    password: Secret = options.pop("sentinel_password", Secret(""))
    if password and _kind(address) != "redis-sentinel":
        raise address.error("sentinel_password is an option of redis-sentinel: and rediss-sentinel: only")
    if options and not _secure(address):
        name = min(options)
        raise address.error(f"{name} is an option of rediss:, rediss-sentinel: and rediss-cluster: only")
    return tuple(sorted(options.items())), password


def _secure(address: Address) -> bool:
    return address.scheme.startswith("rediss")


def _kind(address: Address) -> str:
    """The scheme, without TLS."""
    return address.scheme.replace("rediss", "redis", 1)


def _form(address: Address) -> str:
    return _FORMS.get(_kind(address), "redis://host:6379/0/name")


def _url(address: Address, where: str) -> str:
    if _kind(address) in ("redis-sentinel", "redis-cluster"):
        return f"{address.scheme}://{where}"
    if address.scheme == "redis+unix":
        if where or not address.path.startswith("/"):
            raise address.error(f"it needs the absolute path of the server's socket, such as {_form(address)}")
        return f"unix:{quote(address.path)}"
    return _channel(address, where, _PORT)


def _channel(address: Address, where: str, default: int) -> str:
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]"):
        host, port = where, str(default)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise address.error(f"it needs the server's host, such as {_form(address)}")
    return f"{'tls' if _secure(address) else 'tcp'}://{host}:{port}"


def _among(address: Address, server: Server, where: str, before: list[str], name: str) -> Server:
    """The same server, if others are asked where it is."""
    if _kind(address) == "redis-sentinel":
        if len(before) != 1 or not before[0]:
            raise address.error(f"it names no master; one looks like {_form(address)}")
        nodes = tuple(_channel(address, one, _SENTINELS_PORT) for one in where.split(","))
        return replace(server, url=f"{server.url}/{before[0]}", nodes=nodes, master=before[0])
    if _kind(address) == "redis-cluster":
        if server.db:
            raise address.error("a cluster has no database but 0")
        if "}" in name:
            raise address.error("in a cluster, a name can't contain }: its keys would be in different slots")
        return replace(server, nodes=tuple(_channel(address, one, _PORT) for one in where.split(",")), key=name)
    return server


def _database(address: Address, text: str) -> int:
    if text and not text.isdecimal():
        raise address.error(f"{text!r} is no number of a database; one looks like {_form(address)}")
    return int(text or 0)
