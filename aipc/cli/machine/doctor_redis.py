"""`aipc doctor redis://...`: what a server is, and what its settings mean for what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aipc._address import parse
from aipc.exceptions import AddressError

from .finding import Finding

_OLDEST = (6, 2)
_KEEP = "then `redis-cli config rewrite`"


def server_findings(url: str) -> Iterator[Finding]:
    """The checks of the server at a URL. AddressError for a URL that is not of one."""
    address = parse(url)
    if not address.scheme.startswith("redis"):
        raise AddressError(
            f"{address.url!r}: doctor takes the URL of something on a Redis server, such as redis://host:6379/0/name"
        )
    from aipc.redis.checkup import check_up  # it needs hiredis

    found = check_up(address)
    subject = f"Server at {found.url}"
    good = tuple(int(part) for part in found.version.split(".")[:2]) >= _OLDEST
    yield Finding(subject, "version", found.version, good, "aipc needs 6.2 or later")
    replica = found.role != "master"
    yield Finding(
        subject, "role", found.role, not replica, "a replica takes no writes: use the master's URL, or redis-sentinel:"
    )
    yield Finding(subject, "ping", f"{found.ping * 1e3:.2f} ms", None, "a send, and a lease, take at least one such time")
    if not found.settings:
        yield Finding(subject, "settings", "unknown", None, "this login may not ask CONFIG GET")
        return
    for name, value, well, advice in _settings(found.settings):
        yield Finding(subject, name, value, well, advice)


def _settings(settings: Mapping[str, str]) -> Iterator[tuple[str, str, bool | None, str]]:
    kept = settings.get("appendonly") == "yes"
    lost = "what was acknowledged is lost when the server is killed"
    yield "appendonly", settings.get("appendonly", "unknown"), kept, f"{lost}: `redis-cli config set appendonly yes`, {_KEEP}"
    sync = settings.get("appendfsync", "unknown")
    if kept:
        advice = f"up to a second of it may be lost: `redis-cli config set appendfsync always`, {_KEEP}; slower"
        yield "appendfsync", sync, {"always": True, "no": False}.get(sync), advice
    policy, limited = settings.get("maxmemory-policy", "unknown"), settings.get("maxmemory", "0") != "0"
    advice = f"jobs and locks may be evicted: `redis-cli config set maxmemory-policy noeviction`, {_KEEP}"
    yield "maxmemory-policy", policy, policy == "noeviction" or (False if limited else None), advice
