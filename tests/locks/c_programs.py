"""C programs that sleep until they have a lock."""

from __future__ import annotations

KINDS = {"flock": "flock", "fcntl": "ofd", "fcntl?owner=process": "posix"}


def _parts(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition(":")
    name, _, options = rest.partition("?")
    return scheme + ("?owner=process" if "owner=process" in options else ""), name


def taking(url: str, peers: dict[str, str]) -> list[str]:
    """One that takes the lock and ends when its standard input does; it says so before. A POSIX semaphore stays taken."""
    kind, name = _parts(url)
    if kind == "sysv-sem":
        return [peers["sysv_semaphore"], "undo", name, "0:-1"]
    if kind == "posix-sem":
        return [peers["posix_semaphore"], "wait", name]
    return [peers["file_lock"], KINDS[kind], "exclusive", name, "5", "10"]


def giving_back(url: str, peers: dict[str, str]) -> list[str]:
    """One that raises the POSIX semaphore."""
    return [peers["posix_semaphore"], "post", _parts(url)[1]]
