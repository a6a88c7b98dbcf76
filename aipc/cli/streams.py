"""The command's own input and output, for an event loop."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import anyio.to_thread

CHUNK = 1 << 16


async def read() -> bytes:
    """What standard input has, at most 64 KiB; empty at its end. Cancelled: nothing was read."""
    fd = sys.stdin.fileno()
    try:
        await anyio.wait_readable(fd)
    except PermissionError:  # epoll_ctl(2): a file is always readable
        await anyio.lowlevel.checkpoint()
    return os.read(fd, CHUNK)


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input, without their line feeds."""
    rest = b""
    while chunk := await read():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def whole() -> bytes:
    """All of standard input."""
    parts = []
    while chunk := await read():
        parts.append(chunk)
    return b"".join(parts)


async def write(data: bytes) -> None:
    """Write to standard output, all of it, without stopping the loop if its reader is slow."""
    await anyio.to_thread.run_sync(_write, data)


def _write(data: bytes) -> None:
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


async def write_line(data: bytes) -> None:
    """Write data and a line feed."""
    await write(data + b"\n")
