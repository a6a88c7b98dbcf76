"""kill -9 of a lock's holder: how long until a process that waits has the lock.

`python -m benchmarks.killed_holder [KILLS]`; it waits up to half a second before each kill, at random.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

import aipc

from .harness import child, run

KILLS = 1_000
KINDS = ("flock", "fcntl", "fcntl, owner=process", "sysv-sem, undo")
MOST_WAITED = 0.5
_KEY = 0x63000000 + os.getpid() % 0x10000 * 16


@contextmanager
def lock_url(kind: str) -> Iterator[str]:
    """A lock of that kind, there for the block."""
    with tempfile.TemporaryDirectory() as directory:
        if not kind.startswith("sysv"):
            yield f"{kind.partition(',')[0]}:{directory}/lock" + ("?owner=process" if "process" in kind else "")
            return
        url = f"sysv-sem:{_KEY:#x}"

        async def make() -> aipc.Lock:
            return await aipc.open_lock(url, exclusive=True, unlink=True)

        owner = asyncio.run(make())
        try:
            yield url
        finally:
            asyncio.run(owner.aclose())


class Holder:
    """A forked process that takes the lock, and holds it until it is killed; made before any loop runs here.

    A fork server, in effect: one child makes all holders, so that the waiting process forks nothing.
    """

    def __init__(self, url: str) -> None:
        asked, self._ask = os.pipe()
        self._told, tell = os.pipe()
        self._server = child(self._serve, url, asked, tell)
        os.close(asked)
        os.close(tell)

    def _serve(self, url: str, asked: int, tell: int) -> None:
        os.close(self._ask)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
        while os.read(asked, 1):
            child(lambda: asyncio.run(_hold(url, tell)))

    def start(self) -> int:
        """The pid of a new one, which has the lock."""
        os.write(self._ask, b"?")
        return int.from_bytes(os.read(self._told, 4), "little")

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._told)
        os.waitpid(self._server, 0)


async def _hold(url: str, tell: int) -> None:
    lock = await aipc.open_lock(url)
    await lock.acquire()
    os.write(tell, os.getpid().to_bytes(4, "little"))
    await asyncio.sleep(3600)


async def _take_over(url: str, holder: Holder, kills: int) -> list[float]:
    """Seconds from each kill(2) to the moment when a task that waits has the lock."""
    latencies = []
    async with aipc.open_lock(url) as lock:
        for _ in range(kills):
            pid = holder.start()
            killed = 0.0

            async def kill(pid: int = pid) -> None:
                nonlocal killed
                await anyio.sleep(random.uniform(0, MOST_WAITED))
                killed = time.perf_counter()
                os.kill(pid, signal.SIGKILL)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                async with lock:
                    latencies.append(time.perf_counter() - killed)
    return latencies


def latencies(kind: str, kills: int = KILLS, loop: str = "asyncio") -> tuple[float, float]:
    """p50 and p99 in milliseconds, for one of KINDS."""
    with lock_url(kind) as url:
        holder = Holder(url)
        try:
            seconds = sorted(run(loop, _take_over, url, holder, kills))
        finally:
            holder.close()
    return seconds[len(seconds) // 2] * 1e3, seconds[int(len(seconds) * 0.99)] * 1e3


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    for kind in KINDS:
        half, most = latencies(kind, kills)
        print(f"{kind:22} {kills:,} kills: p50 {half:.2f} ms, p99 {most:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
