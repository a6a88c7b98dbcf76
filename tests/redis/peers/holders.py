"""Other processes that hold a lock: `python -m` this, with a role and a URL."""

from __future__ import annotations

import sys
from typing import cast

import anyio

import aipc
from aipc.redis.lock import RemoteLock


async def hold(url: str) -> None:
    """Hold it, and tell how that ended."""
    async with aipc.open_lock(url) as opened:
        lock = cast(RemoteLock, opened)
        try:
            async with lock:
                print(lock.token, flush=True)
                while True:
                    await anyio.sleep(0.01)
        except aipc.LeaseLost:
            print("lost", flush=True)


async def wait(url: str) -> None:
    """Wait for it."""
    async with aipc.open_lock(url) as lock:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lock.acquire)
            await anyio.sleep(0.2)
            print("waits", flush=True)
        print("holds", flush=True)


if __name__ == "__main__":
    anyio.run({"hold": hold, "wait": wait}[sys.argv[1]], sys.argv[2])
