"""Cancellations injected into each opener, at each of its awaits: nothing stays, neither descriptor, file, socket nor kernel object."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import sysv_ipc

import aipc
from aipc.testing import CANCELLED, Moment, inject, kernel_objects, nothing_left
from aipc.testing.leaks import descriptors

from ..subjects import new_key, new_name
from ..subjects.channels import certified

pytestmark = pytest.mark.anyio

DEEPEST = 6  # awaits: spins, then the first parks
Opener = Callable[[], Any]


@asynccontextmanager
async def unhindered(opener: Opener) -> AsyncIterator[Opener]:
    yield opener


@asynccontextmanager
async def full_backlog(directory: Path, scheme: str, kind: int) -> AsyncIterator[Opener]:
    """Connecting waits: the listener's backlog has no room."""
    path = f"{directory}/full"
    peers: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(path)
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                peers.append(socket.socket(socket.AF_UNIX, kind))
                peers[-1].setblocking(False)
                peers[-1].connect(path)
        yield lambda: aipc.open_channel(f"{scheme}:{path}")
        for peer in peers:
            peer.close()
        os.unlink(path)


@asynccontextmanager
async def reserved(directory: Path, scheme: str) -> AsyncIterator[Opener]:
    """Listening waits: another process of this user is about to listen there."""
    from ..transports.unix.test_unix_binding import locked

    beside = directory / ".socket.aipc-bind"
    beside.touch(0o600)
    with locked(beside):
        url = f"{scheme}:{directory}/socket"
        yield lambda: aipc.listen(url)
    beside.unlink()


@asynccontextmanager
async def fifo(directory: Path, options: str) -> AsyncIterator[Opener]:
    """Opening waits for the other side."""
    yield lambda: aipc.open_channel(f"fifo:{directory}/fifo?create=1&unlink=1&{options}")


@asynccontextmanager
async def unprepared_semaphore(directory: Path) -> AsyncIterator[Opener]:
    """Opening waits for the creator, which has not operated on it yet."""
    key = new_key()
    semaphore = sysv_ipc.Semaphore(int(key, 0), sysv_ipc.IPC_CREX)
    yield lambda: aipc.open_lock(f"sysv-sem:{key}?create=1")
    semaphore.remove()


@asynccontextmanager
async def internet(scheme: str, host: str, backlog: int = 100, **context: Any) -> AsyncIterator[Opener]:
    """Connecting takes a round trip, a name's resolution a thread. Nobody is accepted: TLS waits for that.

    With a `backlog` of 0 there is room for one connection, which is made here: the next one waits.
    """
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        first.connect(listener.getsockname())
        url = f"{scheme}://{host}:{listener.getsockname()[1]}"
        yield lambda: aipc.open_channel(url, **context)


OPENERS: dict[str, Callable[[Path], Any]] = {
    "unix, full": lambda place: full_backlog(place, "unix", socket.SOCK_STREAM),
    "unix+seqpacket, full": lambda place: full_backlog(place, "unix+seqpacket", socket.SOCK_SEQPACKET),
    "shm, full": lambda place: full_backlog(place, "shm", socket.SOCK_STREAM),
    "unix, reserved": lambda place: reserved(place, "unix"),
    "unix+seqpacket, reserved": lambda place: reserved(place, "unix+seqpacket"),
    "shm, reserved": lambda place: reserved(place, "shm"),
    "fifo to send": lambda place: fifo(place, "direction=send"),
    "fifo to receive": lambda place: fifo(place, "wait=1"),
    "sysv-sem": unprepared_semaphore,
    "tcp": lambda place: internet("tcp", "127.0.0.1"),
    "tcp, full": lambda place: internet("tcp", "127.0.0.1", 0),
    "tcp by name, full": lambda place: internet("tcp", "localhost", 0),
    "tcp by name": lambda place: internet("tcp", "localhost"),
    "tls": lambda place: internet("tls", "127.0.0.1", ssl_context=certified()[1]),
    "udp by name": lambda place: unhindered(lambda: aipc.open_channel("udp:?bind=localhost:0")),
    "tcp, to listen by name": lambda place: unhindered(lambda: aipc.listen("tcp://localhost:0")),
    "unix, to listen": lambda place: unhindered(lambda: aipc.listen(f"unix:{place}/socket")),
    "unix+dgram": lambda place: unhindered(lambda: aipc.open_channel(f"unix+dgram:?bind={place}/socket")),
    "exec": lambda place: unhindered(lambda: aipc.open_channel("exec:true")),
    "popen": lambda place: unhindered(lambda: aipc.popen("true")),
    "pipeline": lambda place: unhindered(lambda: aipc.pipeline("true", "true")),
    "sysv-mq": lambda place: unhindered(lambda: aipc.open_channel("sysv-mq:private")),
    "posix-mq": lambda place: unhindered(partial(aipc.open_channel, f"posix-mq:{new_name()}?create=1&unlink=1")),
    "posix-sem": lambda place: unhindered(partial(aipc.open_lock, f"posix-sem:{new_name()}?create=1&unlink=1&robust=1")),
    "flock": lambda place: unhindered(lambda: aipc.open_lock(f"flock:{place}/lock?unlink=1")),
    "fcntl": lambda place: unhindered(lambda: aipc.open_lock(f"fcntl:{place}/lock")),
    "Event": lambda place: unhindered(lambda: aipc.Event("private")),
}
AT_ONCE = tuple(OPENERS)[-11:]
"""What awaits nothing, and so is cancelled at its closing, if that waits."""


def there(directory: Path) -> frozenset[str]:
    gc.collect()
    files = frozenset(os.listdir(directory)) - {"lock"}  # a lock's file is to stay
    return kernel_objects() | descriptors() | files


async def is_left(directory: Path, before: frozenset[str]) -> None:
    """A cancelled resolver's thread takes its time."""
    with anyio.move_on_after(10):
        while there(directory) - before:
            await anyio.sleep(0.001)
    assert there(directory) - before == set()


async def one_cancellation(opener: Opener, at: int, moment: Moment) -> bool:
    """Whether it was cancelled there; what had no such await is cancelled where it waits for ever, or opens, and is closed."""

    async def opened() -> None:
        await (await opener()).aclose()

    outcome: object = None
    with anyio.move_on_after(0.1):
        outcome = await inject(opened(), at, moment)
    return outcome is CANCELLED


@pytest.mark.parametrize("what", OPENERS)
async def test_nothing_stays(what: str, place: Path) -> None:
    cancelled = 0
    with anyio.fail_after(60):
        async with OPENERS[what](place) as opener:
            files = os.listdir(place)
            await one_cancellation(opener, 100, Moment.AWAIT)  # what this loop keeps from its first wait on, it has by now
            before = there(place) - (frozenset(os.listdir(place)) - frozenset(files))
            for number in range(2 * DEEPEST):
                cancelled += await one_cancellation(opener, number // 2, tuple(Moment)[number % 2])
                await is_left(place, before)
    assert cancelled or what in AT_ONCE
    (place / "lock").unlink(missing_ok=True)


@pytest.mark.parametrize("what", AT_ONCE)
async def test_closing_in_a_cancelled_task(what: str, place: Path) -> None:
    """It is closed all the same."""
    with nothing_left():
        async with OPENERS[what](place) as opener:
            opened = await opener()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await opened.aclose()
    assert os.listdir(place) == ["lock"] * (what == "fcntl")
