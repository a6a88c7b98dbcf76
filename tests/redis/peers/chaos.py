"""A process that works on a server while it is killed, stopped and cut off: `python -m` this, with URLs, a file, a count and a loop.

It sends jobs, works them off, and holds each of the locks in turn with others, until the file `PATH.stop` is there.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import anyio

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock

LOCKS = 8
_PAUSE = 0.01
"""Seconds between two jobs."""
LOOPS: tuple[dict[str, Any], ...] = (
    {"backend": "asyncio"},
    {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    {"backend": "trio"},
)


def write(path: str, text: str) -> None:
    """One line, whole, behind those of all others."""
    with open(path, "ab", buffering=0) as file:
        file.write(text.encode() + b"\n")


async def produce(url: str, path: str, stopped: Callable[[], bool]) -> None:
    async with aipc.open_channel(url, wait=True) as queue:
        number = 0
        while not stopped():
            text = f"{os.getpid()}:{number}"
            await queue.send(text.encode())
            write(f"{path}.sent", text)
            number += 1
            await anyio.sleep(_PAUSE)


async def consume(url: str, path: str) -> None:
    async with aipc.open_channel(url, wait=True) as opened:
        queue = cast("RemoteJobChannel", opened)
        while True:
            try:
                async with queue.lease() as job:
                    write(f"{path}.got", job.data.decode())
            except aipc.LeaseLost:
                continue  # it comes again


def stored(path: str, token: int, holder: str) -> bool:
    """The storage: whether it takes a write with this token. It keeps what it took, in order."""
    with open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(max(file.tell() - 100, 0))
        *_, last = file.read().split(b"\n")[:-1] or [b"0"]
        takes = token >= int(last.split()[0])
        if takes:
            file.write(f"{token} {holder}\n".encode())
        return takes


async def exclude(url: str, path: str, count: int, stopped: Callable[[], bool]) -> None:
    """Hold the lock again and again, and write to the storage when that begins and when it ends.

    Each acquisition is a line: token, holder, when it began and ended, whether the storage took both.
    """
    done = 0
    async with aipc.open_lock(url, wait=True) as opened:
        lock = cast("RemoteLock", opened)
        while done < count or not stopped():
            holder = f"{os.getpid()}:{done}"
            try:
                async with lock:
                    token, began = lock.token, time.monotonic()
                    took = stored(f"{path}.storage", token, holder)
                    await anyio.sleep(0.001)
                    took &= stored(f"{path}.storage", token, holder)
                    write(f"{path}.held", f"{token} {holder} {began} {time.monotonic()} {took:d}")
                    done += 1
            except aipc.LeaseLost:
                write(f"{path}.lost", holder)


async def main(jobs: str, lock: str, path: str, count: int) -> None:
    def stopped() -> bool:
        return os.path.exists(f"{path}.stop")

    async with anyio.create_task_group() as consumer:
        consumer.start_soon(consume, jobs, path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce, jobs, path, stopped)
            for number in range(LOCKS):
                tasks.start_soon(exclude, f"{lock}{number}", f"{path}.lock{number}", count, stopped)
        write(f"{path}.ended", str(os.getpid()))


if __name__ == "__main__":
    jobs, lock, path, count, loop = sys.argv[1:]
    anyio.run(main, jobs, lock, path, int(count), **LOOPS[int(loop)])
