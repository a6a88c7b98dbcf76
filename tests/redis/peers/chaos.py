"""Processes that work on a server while it is killed and stopped: `python -m` this, with a role, a URL, a file and a count."""

from __future__ import annotations

import fcntl
import os
import sys
import time

import anyio

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock


def write(path: str, text: str) -> None:
    """One line, whole, behind those of all others."""
    with open(path, "ab", buffering=0) as file:
        file.write(text.encode() + b"\n")


async def produce(url: str, path: str, count: int) -> None:
    async with aipc.open_channel(url, wait=True) as queue:
        for number in range(count):
            text = f"{os.getpid()}:{number}"
            await queue.send(text.encode())
            write(f"{path}.sent", text)


async def consume(url: str, path: str, count: int) -> None:
    async with aipc.open_channel(url, wait=True) as queue:
        assert isinstance(queue, RemoteJobChannel)
        while True:
            try:
                async with queue.lease() as job:
                    write(f"{path}.got", job.data.decode())
            except aipc.LeaseLost:
                continue  # it comes again


def stored(path: str, token: int) -> bool:
    """The storage: whether it takes a write with this token."""
    with open(f"{path}.storage", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        newest = int(file.read() or 0)
        if token >= newest:
            file.seek(0)
            file.write(str(token))
        return token >= newest


async def exclude(url: str, path: str, count: int) -> None:
    """Hold the lock again and again; each acquisition is a line: token, when it began and ended, whether the storage took it."""
    async with aipc.open_lock(url, wait=True) as lock:
        assert isinstance(lock, RemoteLock)
        for _ in range(count):
            try:
                async with lock:
                    token, began = lock.token, time.monotonic()
                    took = stored(path, token)
                    await anyio.sleep(0)
                    write(f"{path}.held", f"{token} {began} {time.monotonic()} {took:d}")
            except aipc.LeaseLost:
                write(f"{path}.held", "lost")


if __name__ == "__main__":
    role, url, path, count = sys.argv[1:]
    anyio.run({"produce": produce, "consume": consume, "exclude": exclude}[role], url, path, int(count))
