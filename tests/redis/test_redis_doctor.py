"""`aipc doctor` with the URL of something on a server."""

from __future__ import annotations

import json
from pathlib import Path

from ..cli.runs import run
from .peers.servers import RedisServer


def test_a_server_that_keeps_nothing_and_evicts(redis: RedisServer) -> None:
    status, printed = run("doctor", redis.url(), "--json")
    found = {row["name"]: row for row in json.loads(printed)}
    assert status == 1
    assert {name: row["good"] for name, row in found.items()} == {
        "version": True,
        "role": True,
        "ping": None,
        "appendonly": False,
        "maxmemory-policy": True,
    }
    assert "config set appendonly yes" in found["appendonly"]["advice"]
    assert 0 < float(found["ping"]["value"].removesuffix(" ms")) < 1000
    for words in (("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "yes")):
        redis.command("CONFIG", "SET", *words)
    _, printed = run("doctor", redis.url(), "--json")
    found = {row["name"]: row for row in json.loads(printed)}
    assert [found[name]["good"] for name in ("appendonly", "appendfsync", "maxmemory-policy")] == [True, None, False]


def test_a_safe_server(place: Path) -> None:
    server = RedisServer(place, "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "s3cret")
    try:
        status, printed = run("doctor", f"redis+unix://:s3cret@{server.path}?name=x")
        assert status == 0, printed
        assert all(name in printed for name in ("version", "appendfsync", "always", "noeviction"))
        assert "s3cret" not in printed
        status, printed = run("doctor", server.url())
        assert (status, "NOAUTH" in printed) == (1, True)
    finally:
        server.end()


def test_what_is_no_server(place: Path) -> None:
    assert run("doctor", "unix:/x")[0] == 2
    assert run("doctor", f"redis+unix:{place}/nobody?name=x")[0] == 3
