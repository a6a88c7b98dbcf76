"""The tour's second process: `python -m aipc.cli.tours.peer LOOP TASK ...`.

The tasks: channel URL [URL] | greet URL URL | acknowledge URL | count URL FILE TIMES | hold URL
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import anyio

import aipc
from aipc.abc import Channel


class Acknowledged:
    """Sends a message once the other side has confirmed the one before: UDP alone drops what exceeds its buffer."""

    def __init__(self, channel: Channel, **meta: Any) -> None:
        self._channel = channel
        self._meta = meta

    def extra(self, attribute: Any) -> Any:
        """As the channel's `extra`."""
        return self._channel.extra(attribute)

    async def send(self, data: bytes) -> None:
        """Send, and wait until it has arrived."""
        await self._channel.send(data, **self._meta)
        await self._channel.receive()

    async def send_many(self, items: Iterable[bytes]) -> None:
        """Send one after the other."""
        for item in items:
            await self.send(item)

    async def receive(self) -> bytes:
        """Receive, and confirm it."""
        data = await self._channel.receive()
        await self._channel.send(b"", **self._meta)
        return data

    async def receive_many(self, max_messages: int) -> list[bytes]:
        """Receive one message: there is never more than one on its way."""
        return [await self.receive()]


Talker = Channel | Acknowledged


async def channel(url: str, back: str | None = None) -> None:
    """Answer with the SHA-256 of all messages, then echo. With two URLs, send over the first and receive from the second."""
    async with aipc.open_channel(url) as sends:
        if back is None:
            await _answer(sends, sends)
            return
        async with aipc.open_channel(back) as receives:
            await _answer(sends, receives)


async def greet(url: str, back: str) -> None:
    """As `channel`, but send first: the other side cannot send before it has this one's address."""
    async with aipc.open_channel(url) as sends, aipc.open_channel(back) as receives:
        await sends.send(b"")
        await _answer(sends, receives)


async def acknowledge(url: str) -> None:
    """As `channel`, over one channel that may lose messages; send first."""
    async with aipc.open_channel(url) as datagrams:
        await datagrams.send(b"")
        await _answer(Acknowledged(datagrams), Acknowledged(datagrams))


async def _answer(sends: Talker, receives: Talker) -> None:
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
    """Do the task that the tour asks for."""
    loop, task, *arguments = sys.argv[1:]
    tasks: dict[str, Callable[..., Awaitable[None]]] = {
        "channel": channel,
        "greet": greet,
        "acknowledge": acknowledge,
        "count": count,
        "hold": hold,
    }
    backend, options = ("trio", {}) if loop == "trio" else ("asyncio", {"use_uvloop": loop == "uvloop"})
    anyio.run(tasks[task], *arguments, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
