"""What waiting costs: memory for each idle connection, processor time and wake-ups of an idle wait."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import anyio

import aipc

from .harness import run

CONNECTIONS = 5_000
IDLE_SECONDS = 10.0
_SETTLED = 2.0
"""Seconds after which a wait has its longest pauses: this is about waits that last for hours."""


def _anonymous() -> int:
    """Bytes of this process's anonymous memory (proc(5))."""
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


async def _serve_streams(path: str, count: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
            count()

    async with await asyncio.start_unix_server(handle, path, backlog=1024):
        await asyncio.sleep(3600)


async def _serve_aipc(path: str, count: Any) -> None:
    async def handle(channel: aipc.Channel) -> None:
        async for _ in channel:
            count()

    async with aipc.listen(f"unix:{path}") as listener:
        await listener.serve(handle)


async def _memory(kind: str, path: str) -> float:
    """Bytes for each connection of a server that has received one message on each, and waits for more."""
    messages = 0

    def count() -> None:
        nonlocal messages
        messages += 1

    server = asyncio.create_task({"streams": _serve_streams, "aipc": _serve_aipc}[kind](path, count))
    while not os.path.exists(path):
        await asyncio.sleep(0.01)
    await _reach(1, path, lambda: messages)
    gc.collect()
    before, messages = _anonymous(), 0
    await _reach(CONNECTIONS, path, lambda: messages)
    gc.collect()
    grown = _anonymous() - before
    server.cancel()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # streams complain of each cancelled handler
    return grown / CONNECTIONS


_CLIENT = """
import socket, sys
sockets = []
for _ in range(int(sys.argv[1])):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[2])
    sock.sendall(b"\\0\\0\\0\\1x")
    sockets.append(sock)
sys.stdin.read()
"""
_clients: list[subprocess.Popen[bytes]] = []


async def _reach(connections: int, path: str, messages: Any) -> None:
    """Connect so many clients from another process, and wait until each one's message is there."""
    _clients.append(subprocess.Popen([sys.executable, "-c", _CLIENT, str(connections), path], stdin=subprocess.PIPE))
    while messages() < connections:
        await asyncio.sleep(0.02)


async def _left_fifo() -> aipc.Channel:
    """The receiving end of a FIFO whose last writer has left."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"fifo:{directory}/fifo"
        channel = await aipc.open_channel(url, create=True, keep_open=True)
        async with aipc.open_channel(url, direction="send") as writer:
            await writer.send(b"last")
    await channel.receive()
    return channel


async def _idle(url: str) -> dict[str, float]:
    """An idle receive: share of a core, and wake-ups a second."""
    before = after = None
    async with anyio.create_task_group() as tasks:
        if url in ("pair", "shm-pair"):
            channel, _peer = aipc.channel_pair("shm" if url == "shm-pair" else "stream")
        elif url == "fifo":
            channel = await _left_fifo()
        else:
            channel = await aipc.open_channel(url)
        async with channel:
            tasks.start_soon(channel.receive)
            await anyio.sleep(_SETTLED)
            before = resource.getrusage(resource.RUSAGE_SELF)
            start = time.monotonic()
            await anyio.sleep(IDLE_SECONDS)
            seconds = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_SELF)
            tasks.cancel_scope.cancel()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"core": used / seconds, "wakes": (after.ru_nvcsw - before.ru_nvcsw) / seconds}


def measure(*arguments: str) -> Any:
    """Run one of these in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.idle", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "memory":
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CONNECTIONS, 2 * CONNECTIONS))
        with tempfile.TemporaryDirectory() as directory:
            try:
                print(asyncio.run(_memory(arguments[0], f"{directory}/socket")), flush=True)
            finally:
                for client in _clients:
                    client.communicate()
    else:
        print(json.dumps(run(arguments[0], _idle, arguments[1])))


if __name__ == "__main__":
    main()
