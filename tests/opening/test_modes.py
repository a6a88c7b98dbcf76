"""What is made belongs to its user alone, unless a mode is given: whatever the umask, nobody else may use it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import aipc

from ..subjects import new_key, new_name

pytestmark = pytest.mark.anyio

OWNERS_ALONE = 0o600

OBJECTS: dict[str, Callable[[str, str], Any]] = {
    "sysv-mq": lambda key, _: aipc.open_channel(f"sysv-mq:{key}", create=True, unlink=True),
    "sysv-sem": lambda key, _: aipc.open_lock(f"sysv-sem:{key}", create=True, unlink=True),
    "sysv-sem-set": lambda key, _: aipc.SysVSemaphoreSet(key, create=True, unlink=True),
    "sysv-shm": lambda key, _: aipc.SysVSharedMemory.create(key, 100, unlink=True),
    "event": lambda key, _: aipc.Event(key, unlink=True),
    "posix-sem": lambda _, name: aipc.open_lock(f"posix-sem:{name}", create=True, unlink=True),
    "posix-shm": lambda _, name: aipc.SharedMemory.create(name, 100, unlink=True),
    "snapshot": lambda _, name: aipc.Snapshot.create(name, 100, unlink=True),
}
FILES: dict[str, Callable[[Path], Any]] = {
    "unix": lambda path: aipc.listen(f"unix:{path}"),
    "unix+seqpacket": lambda path: aipc.listen(f"unix+seqpacket:{path}"),
    "unix+dgram": lambda path: aipc.open_channel(f"unix+dgram:?bind={path}"),
    "shm": lambda path: aipc.listen(f"shm:{path}"),
    "fifo": lambda path: aipc.open_channel(f"fifo:{path}?direction=receive", create=True),
    "flock": lambda path: aipc.open_lock(f"flock:{path}"),
    "fcntl": lambda path: aipc.open_lock(f"fcntl:{path}"),
    "file": lambda path: aipc.MappedFile.create(path, 100),
}


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def enter(stack: AsyncExitStack, made: Any) -> None:
    if hasattr(made, "__aenter__"):
        await stack.enter_async_context(made)
    else:
        stack.enter_context(made)


@pytest.mark.parametrize("kind", OBJECTS)
async def test_object(kind: str) -> None:
    key, name = new_key(), new_name()
    async with AsyncExitStack() as stack:
        await enter(stack, OBJECTS[kind](key, name))
        modes = [it.mode for it in aipc.list_objects() if it.name == name or it.key == int(key, 16)]
    assert modes == [OWNERS_ALONE]


async def test_posix_queue() -> None:
    """`list_objects` shows them only where `/dev/mqueue` is mounted."""
    async with aipc.open_channel(f"posix-mq:{new_name()}", create=True, unlink=True) as queue:
        assert stat.S_IMODE(os.fstat(queue.extra(aipc.ChannelAttribute.descriptor)).st_mode) == OWNERS_ALONE


@pytest.mark.parametrize("kind", FILES)
async def test_file(kind: str, place: Path) -> None:
    path = place / "made"
    async with AsyncExitStack() as stack:
        await enter(stack, FILES[kind](path))
        assert stat.S_IMODE(path.stat().st_mode) == OWNERS_ALONE
