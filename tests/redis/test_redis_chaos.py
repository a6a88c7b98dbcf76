"""A server that is killed and stopped while processes work: what was acknowledged is delivered, and tokens exclude."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from ..subjects import times
from .peers.servers import RedisServer

KILLS = times(2, 50)
JOBS = times(300, 20_000)
HOLDS = times(150, 12_500)


@pytest.fixture
def durable(place: Path) -> Iterator[RedisServer]:
    server = RedisServer(place, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.end()


@contextmanager
def working(role: str, url: str, path: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", "tests.redis.peers.chaos", role, url, str(path), str(count)]) as process:
        try:
            yield process
        finally:
            process.kill()


def disturb(server: RedisServer, while_running: list[subprocess.Popen[bytes]]) -> None:
    """Kill and stop the server, and cut all connections, some times; then let those end."""
    for _ in range(KILLS):
        time.sleep(random.uniform(0.1, 0.4))
        server.command("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(random.uniform(0.0, 0.1))
        server.freeze()
        time.sleep(random.uniform(0.1, times(2, 50) / 10))
        server.thaw()
        server.kill()
        os.unlink(server.path)
        server.start()
    for process in while_running:
        assert process.wait(times(60, 900)) == 0


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.costly
def test_what_was_acknowledged_is_delivered(durable: RedisServer, place: Path) -> None:
    url, path = durable.url("jobs", lease_seconds=1), place / "it"
    with (
        working("produce", url, path, JOBS) as one,
        working("produce", url, path, JOBS) as other,
        working("consume", url, path, 0),
        working("consume", url, path, 0),
    ):
        disturb(durable, [one, other])
        sent, end = set(lines(place / "it.sent")), time.monotonic() + 30
        while not sent.issubset(lines(place / "it.got")):
            assert time.monotonic() < end, f"lost: {sorted(sent - set(lines(place / 'it.got')))[:10]}"
            time.sleep(0.05)
    got = lines(place / "it.got")
    print(f"{len(sent)} jobs, {len(got) - len(set(got))} of them twice")


@pytest.mark.costly
def test_no_two_holders_pass_a_storage_that_checks_tokens(durable: RedisServer, place: Path) -> None:
    url, path = durable.url("lock", ttl=1), place / "it"
    (place / "it.storage").touch()
    with (
        working("exclude", url, path, HOLDS) as one,
        working("exclude", url, path, HOLDS) as two,
        working("exclude", url, path, HOLDS) as three,
    ):
        disturb(durable, [one, two, three])
    held = [line.split() for line in lines(place / "it.held") if line != "lost"]
    assert len(held) > HOLDS * 3 * 0.9
    tokens = [int(token) for token, *_ in held]
    assert len(set(tokens)) == len(tokens)
    spans = sorted((float(began), float(end), took) for _, began, end, took in held)
    overlaps = sum(later[0] < earlier[1] for earlier, later in pairwise(spans))
    print(f"{len(held)} acquisitions, {overlaps} overlaps, {sum(span[2] == '0' for span in spans)} refused")
    passed = sorted((int(token), float(began)) for token, began, _, took in held if took == "1")
    assert [began for _, began in passed] == sorted(began for _, began in passed)
