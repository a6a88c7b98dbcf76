"""The tour's second process: `python -m aipc.cli.tour_peer LOOP channel URL [URL] | count URL FILE TIMES | hold URL`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

import aipc
from aipc.abc import Channel


async def channel(url: str, back: str | None = None) -> None:
    """Answer with the SHA-256 of all that came, then echo. With two URLs, send over the first and receive from the second."""
    async with aipc.open_channel(url) as sends:
        if back is None:
            await _answer(sends, sends)
            return
        async with aipc.open_channel(back) as receives:
            await _answer(sends, receives)


async def _answer(sends: Channel, receives: Channel) -> None:
    plan = json.loads(await receives.receive())
    await sends.send(b"ready")
    digest = hashlib.sha256()
    files = 0
    while files < plan["files"]:
        for data in await receives.receive_many(plan["files"] - files):
            digest.update(data)
            files += 1
    await sends.send(json.dumps({"files": files, "sha256": digest.hexdigest()}).encode())
    for _ in range(plan["round_trips"]):
        await sends.send(await receives.receive())


async def count(url: str, counter: str, times: str) -> None:
    """Raise the number in a file under the lock."""
    async with aipc.open_lock(url) as lock:
        for _ in range(int(times)):
            async with lock:
                Path(counter).write_text(str(int(Path(counter).read_text()) + 1))


async def hold(url: str) -> None:
    """Hold the lock until killed."""
    async with aipc.open_lock(url) as lock, lock:
        print("held", flush=True)
        await anyio.sleep_forever()


def main() -> None:
    """Do what the tour asks."""
    loop, task, *arguments = sys.argv[1:]
    tasks: dict[str, Callable[..., Awaitable[None]]] = {"channel": channel, "count": count, "hold": hold}
    backend, options = ("trio", {}) if loop == "trio" else ("asyncio", {"use_uvloop": loop == "uvloop"})
    anyio.run(tasks[task], *arguments, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
