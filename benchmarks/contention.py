"""One lock, several processes that all want it all the time: how often each gets it, and how often in all.

`python -m benchmarks.contention [SECONDS]`
"""

from __future__ import annotations

import asyncio
import os
import select
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import anyio

import aipc

from .harness import LOOPS, child, run

SECONDS = 10.0
PROCESSES = (2, 4)
LOCKS = ("flock", "fcntl", "sysv-sem", "posix-sem")
OTHERS = {"aioprocessing": 3, "filelock": 10}
"""Other packages' asynchronous locks between processes, and how many times faster than each a contended semaphore is."""
_KEY = 0x62000000 + os.getpid() % 0x10000 * 16
_COUNT = struct.Struct("=Q")
Opened = Callable[[], AbstractAsyncContextManager[Any]]


def _url(kind: str, directory: str) -> str:
    return {
        "flock": f"flock:{directory}/lock",
        "fcntl": f"fcntl:{directory}/lock",
        "sysv-sem": f"sysv-sem:{_KEY:#x}",
        "posix-sem": f"posix-sem:/aipc-bench-{os.getpid()}",
    }[kind]


@contextmanager
def _ours(kind: str, directory: str) -> Iterator[Opened]:
    """How each process opens one of aipc's locks; the object is there meanwhile."""
    url = _url(kind, directory)
    owned = {"exclusive": True, "unlink": True} if kind.endswith("sem") else {}

    async def make() -> aipc.Lock:
        return await aipc.open_lock(url, **owned)

    owner = asyncio.run(make())
    try:
        yield lambda: aipc.open_lock(url)
    finally:
        asyncio.run(owner.aclose())


@contextmanager
def _aioprocessing(directory: str) -> Iterator[Opened]:
    import aioprocessing

    lock = aioprocessing.AioLock()

    class Held:
        async def __aenter__(self) -> None:
            await lock.coro_acquire()

        async def __aexit__(self, *_: object) -> None:
            lock.release()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield Held()

    yield opened


@contextmanager
def _filelock(directory: str) -> Iterator[Opened]:
    import filelock

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield filelock.AsyncFileLock(f"{directory}/filelock", poll_interval=0.001)

    yield opened


async def _contend(opened: Opened, until: float, hold: float) -> int:
    count = 0
    async with opened() as lock:
        while time.monotonic() < until:
            async with lock:
                count += 1
                if hold:
                    await anyio.sleep(hold)
    return count


def contend(opened: Opened, processes: int, seconds: float, loop: str = "asyncio", hold: float = 0) -> list[int]:
    """How often each process had the lock."""
    begin = time.monotonic() + 0.3  # all are there by then
    reading, writing = os.pipe()

    def work() -> None:
        time.sleep(max(0, begin - time.monotonic()))
        os.write(writing, _COUNT.pack(run(loop, _contend, opened, begin + seconds, hold)))

    pids = [child(work) for _ in range(processes)]
    os.close(writing)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, "a process failed"
    assert select.select([reading], [], [], 0)[0]
    counts = [_COUNT.unpack(os.read(reading, _COUNT.size))[0] for _ in pids]
    os.close(reading)
    return counts


def share(kind: str, processes: int, seconds: float = SECONDS, loop: str = "asyncio", hold: float = 0) -> tuple[float, float]:
    """The least process's part of its fair share, and acquisitions a second of all."""
    with tempfile.TemporaryDirectory() as directory, _ours(kind, directory) as opened:
        counts = contend(opened, processes, seconds, loop, hold)
    return min(counts) * processes / max(1, sum(counts)), sum(counts) / seconds


def rate(contestant: str, seconds: float = SECONDS) -> float:
    """Acquisitions a second of two processes together: aipc's System V semaphore, "aioprocessing" or "filelock"."""
    makers: dict[str, Callable[[str], AbstractAsyncContextManager[Any] | Any]] = {
        "aipc": lambda directory: _ours("sysv-sem", directory),
        "aioprocessing": _aioprocessing,
        "filelock": _filelock,
    }
    with tempfile.TemporaryDirectory() as directory, makers[contestant](directory) as opened:
        return sum(contend(opened, 2, seconds)) / seconds


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    for loop in LOOPS:
        for kind in LOCKS:
            for processes in PROCESSES:
                least, total = share(kind, processes, seconds, loop)
                print(
                    f"{loop:8} {kind:10} {processes} processes: least share {least:.2f} of fair, {total:,.0f} a second",
                    flush=True,
                )
    for contestant in ("aipc", *OTHERS):
        print(f"{contestant}: {rate(contestant, seconds):,.0f} acquisitions a second, two processes")


if __name__ == "__main__":
    main()
