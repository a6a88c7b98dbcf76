"""One link for each server and loop, shared by all that is open there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aipc._io import fork
from aipc._io.loop import backend

from ..server import Server
from .link import Link

_links: dict[tuple[Server, object], Link] = {}


def join(server: Server) -> Link:
    """The link to that server on this loop, for one user more."""
    key = (server, backend.current())
    link = _links.get(key)
    if link is None or link.closed:
        link = _links[key] = Link(server)
    link.users += 1
    return link


def leave(link: Link) -> None:
    """One user less; after the last one it is closed."""
    link.users -= 1
    if not link.users:
        _links.pop((link.server, link.loop), None)
        link.close()


@contextmanager
def joined(server: Server) -> Iterator[Link]:
    """`join`; a block that raises leaves the link again."""
    link = join(server)
    try:
        yield link
    except BaseException:
        leave(link)
        raise


fork.in_child(_links.clear)
