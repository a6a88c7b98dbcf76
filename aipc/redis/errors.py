"""The server's errors, each as aipc's error for the same thing."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

import anyio

from aipc.exceptions import AccessDenied, AipcError, NoSpace, ProtocolError, WrongObject

from .server import Server

_DENIED = (AccessDenied, errno.EACCES)
_KINDS: Mapping[str, tuple[type[OSError], int]] = {
    "NOAUTH": _DENIED,
    "WRONGPASS": _DENIED,
    "NOPERM": _DENIED,
    "DENIED": _DENIED,
    "OOM": (NoSpace, errno.ENOMEM),
    "MISCONF": (NoSpace, errno.ENOSPC),
    "WRONGTYPE": (WrongObject, errno.EINVAL),
}
PASSING = frozenset(
    {"LOADING", "READONLY", "MASTERDOWN", "NOSCRIPT", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "UNBLOCKED"}
)
"""Errors of a server that is not ready, or no longer the one that takes writes: a new connection asks again."""
_ELSEWHERE = frozenset({"MOVED", "ASK"})
_MOVES = _ELSEWHERE | {"TRYAGAIN", "CLUSTERDOWN"}


def passing(server: Server) -> frozenset[str]:
    """The errors of that server after which a new connection asks again, perhaps elsewhere."""
    return PASSING | _ELSEWHERE if server.key else PASSING


class NotReady(anyio.BrokenResourceError):
    """A server that is there, and can't serve now: it starts, loads its data, is a replica, or just went."""


class SlotMoves(NotReady):
    """The slot of a cluster is not there any more, or not yet, or has no node now: asked again soon, it may be found."""


_WITHIN = re.compile(r"ERR Error running script .*?-([A-Z]+) ")


def kind_of(error: Exception) -> str:
    """The first word of a reply that is an error; before Redis 7, one within a script stands behind much else."""
    text = str(error)
    within = _WITHIN.match(text)
    return within[1] if within else text.partition(" ")[0]


def explain(error: Exception, where: str) -> Exception:
    """The error that a user should see for a reply that is one."""
    kind, text = kind_of(error), f"{where}: the server says: {error}"
    if kind in _KINDS:
        known, code = _KINDS[kind]
        return known(code, text)
    if kind in _MOVES and where.startswith(("redis-cluster:", "rediss-cluster:")):
        return SlotMoves(text)
    if kind in PASSING:
        return NotReady(text)
    if kind in _ELSEWHERE:
        return ProtocolError(f"{text}; a cluster's URL is redis-cluster://host/0/name")
    if "invalid password" in str(error) or "without any password" in str(error):
        return AccessDenied(errno.EACCES, text)
    return ProtocolError(text)


def lasting(error: Exception) -> bool:
    """Whether no later try of a connection would change it."""
    return isinstance(error, AipcError) and not isinstance(
        error, (ConnectionError, FileNotFoundError, anyio.BrokenResourceError)
    )
