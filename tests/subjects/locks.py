"""How the tests open each kind of lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aipc
from aipc.abc import Lock
from aipc.testing import LockSubject

from ..redis.peers.servers import shared_server
from .names import new_key, new_name


def file_lock(url: str) -> LockSubject:
    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
            yield one, other

    return LockSubject(open_two, url)


def sysv_semaphore(directory: Path) -> LockSubject:
    url = f"sysv-sem:{new_key()}"

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with (
            aipc.open_lock(url, exclusive=True, unlink=True),
            aipc.open_lock(url) as one,
            aipc.open_lock(url) as other,
        ):
            yield one, other

    return LockSubject(open_two, url)


def posix_semaphore(directory: Path, *, robust: bool) -> LockSubject:
    url = f"posix-sem:{new_name()}?robust={robust:d}"

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with (
            aipc.open_lock(url, exclusive=True, unlink=True),
            aipc.open_lock(url) as one,
            aipc.open_lock(url) as other,
        ):
            yield one, other

    return LockSubject(open_two, url, dies_free=robust, tells=robust)


def redis_lock(directory: Path) -> LockSubject:
    url = shared_server().url(new_name().strip("/"), ttl=1)

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
            yield one, other
        shared_server().command("FLUSHALL")

    return LockSubject(open_two, url)


LOCKS: dict[str, Callable[[Path], LockSubject]] = {
    "flock": lambda directory: file_lock(f"flock:{directory}/lock"),
    "fcntl": lambda directory: file_lock(f"fcntl:{directory}/lock"),
    "fcntl-process": lambda directory: file_lock(f"fcntl:{directory}/lock?owner=process&start=5&length=10"),
    "sysv-sem": sysv_semaphore,
    "posix-sem": lambda directory: posix_semaphore(directory, robust=False),
    "redis": redis_lock,
    "posix-sem-robust": lambda directory: posix_semaphore(directory, robust=True),
}
