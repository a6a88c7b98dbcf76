"""A server that is killed and stopped, and connections that are cut, while processes work: what was acknowledged is delivered, and
tokens exclude. With `AIPC_TESTS=long` for ten minutes.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..subjects import times
from .peers.chaos import LOCKS, LOOPS
from .peers.cutting import CuttingProxy
from .peers.servers import RedisServer

PROCESSES = times(3, 8)
ROUNDS = times(2, 50)
"""The server is killed, and stopped, once in each."""
ROUND = times(1, 12)
"""Seconds of each."""
STOPPED = times(1, 5)
"""Seconds for which it is stopped, at most."""
HOLDS = times(10, 1_563)
"""Acquisitions of each lock by each process, at least: 100,000 in all."""
BYTES = 20_000, times(100_000, 1_000_000)
"""After so many a connection is cut. The scripts, which a server that was started anew does not know, have 90,000, about."""
SEED = random.randrange(1_000_000)


class Disturbance:
    """Kills and stops a server, and stops processes that use it, at random times."""

    def __init__(self, server: RedisServer, processes: list[subprocess.Popen[bytes]]) -> None:
        self._server = server
        self._processes = processes
        self._random = random.Random(SEED)

    def run(self) -> None:
        for _ in range(ROUNDS):
            end = time.monotonic() + ROUND
            self._pause()
            self._stop_the_server()
            self._pause()
            self._stop_a_process()
            self._pause()
            self._server.kill()
            self._server.start()
            time.sleep(max(end - time.monotonic(), 0))
            assert all(process.poll() is None for process in self._processes)

    def _pause(self) -> None:
        time.sleep(self._random.uniform(0, ROUND / 6))

    def _stop_the_server(self) -> None:
        self._server.freeze()
        time.sleep(self._random.uniform(0.1, STOPPED))
        self._server.thaw()

    def _stop_a_process(self) -> None:
        """For longer than it may hold a lock: others get it, and the storage has something to refuse."""
        process = self._random.choice(self._processes)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)


@pytest.fixture
def server(place: Path) -> Iterator[RedisServer]:
    durable = RedisServer(place, "--appendonly", "yes", "--appendfsync", "always")
    yield durable
    durable.end()


@pytest.fixture
def proxy(place: Path, server: RedisServer) -> Iterator[CuttingProxy]:
    print(f"seed {SEED}")
    cutting = CuttingProxy(f"{place}/proxy", server.path, *BYTES, SEED)
    yield cutting
    cutting.end()


@contextmanager
def working(url: str, path: Path, loop: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [f"{url}name=jobs&lease_seconds=1", f"{url}ttl=1&name=lock", str(path), str(HOLDS), str(loop)]
    with subprocess.Popen([sys.executable, "-m", "tests.redis.peers.chaos", *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.costly
def test_no_acknowledged_job_is_lost_and_tokens_exclude(server: RedisServer, proxy: CuttingProxy, place: Path) -> None:
    path = f"{place}/it"
    with ExitStack() as stack:
        url = f"redis+unix:{proxy.path}?"
        processes = [stack.enter_context(working(url, Path(path), number % len(LOOPS))) for number in range(PROCESSES)]
        Disturbance(server, processes).run()
        Path(f"{path}.stop").touch()
        wait_until(lambda: len(lines(f"{path}.ended")) == PROCESSES, times(60, 1_200))
        sent = set(lines(f"{path}.sent"))
        wait_until(lambda: sent.issubset(lines(f"{path}.got")), 60)
    got = lines(f"{path}.got")
    print(f"{len(sent)} jobs acknowledged, all delivered, {len(got) - len(set(got))} again; {proxy.cuts} connections cut")
    assert proxy.cuts > 3
    check_locks(path)


def check_locks(path: str) -> None:
    found: Counter[str] = Counter()
    for number in range(LOCKS):
        found.update(check_lock(f"{path}.lock{number}"))
    print(", ".join(f"{count} {what}" for what, count in found.items()))
    assert found["acquisitions"] >= HOLDS * PROCESSES * LOCKS


def check_lock(path: str) -> Counter[str]:
    """No two holders had the same token, and no two passed the storage with one, or out of order."""
    held = [line.split() for line in lines(f"{path}.held")]
    assert len({token for token, *_ in held}) == len(held)
    writes = [line.split() for line in lines(f"{path}.storage")]
    assert len({token for token, _ in writes}) == len({tuple(write) for write in writes})
    tokens = [int(token) for token, _ in writes]
    assert tokens == sorted(tokens)
    spans = sorted((float(began), float(end)) for _, _, began, end, _ in held)
    latest, overlaps = 0.0, 0
    for began, end in spans:
        overlaps += began < latest
        latest = max(latest, end)
    return Counter(
        {
            "acquisitions": len(held),
            "overlaps": overlaps,
            "refused by the storage": sum(took == "0" for *_, took in held),
            "leases lost and told": len(lines(f"{path}.lost")),
        }
    )
