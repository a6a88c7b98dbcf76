"""Segments of a file on which the process holds a classic lock: any close(2) of the file would drop it (fcntl(2))."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskStatus

import aipc

from ..subjects import new_name

pytestmark = pytest.mark.anyio

LENGTH = 10_000


def open_and_close(path: Path) -> None:
    with aipc.MappedFile.open(path) as segment:
        segment.buf[0] = 1


def read_only(path: Path) -> None:
    aipc.MappedFile.open(path, True, offset=4096).close()


def private(path: Path) -> None:
    aipc.MappedFile.open(path, private=True).close()


def too_short(path: Path) -> None:
    with pytest.raises(aipc.WrongObject):
        aipc.MappedFile.open(path, size=LENGTH + 1)


def resize(path: Path) -> None:
    with aipc.MappedFile.open(path) as segment:
        segment.resize(2 * LENGTH)
        segment.resize(LENGTH)


def views_that_live_on(path: Path) -> None:
    """The memory goes with the last of them."""
    with suppress(ZeroDivisionError), aipc.MappedFile.open(path) as segment:
        view = segment.buf[:10]
        raise ZeroDivisionError
    assert bytes(view) == bytes(10)
    del view
    gc.collect()


@pytest.mark.parametrize("use", [open_and_close, read_only, private, too_short, resize, views_that_live_on])
async def test_mapped_file(use: Callable[[Path], None], place: Path) -> None:
    path = place / "file"
    path.write_bytes(bytes(LENGTH))
    async with aipc.open_lock(f"fcntl:{path}") as probe, aipc.open_lock(f"fcntl:{path}?owner=process") as lock:
        async with lock:
            use(path)
            assert probe.locked()
        assert not probe.locked()


@pytest.mark.parametrize("wait", [True, False])
async def test_closing_while_a_flush_runs(wait: bool, place: Path) -> None:
    """The flush's thread closes the file."""
    path = place / "file"
    path.write_bytes(bytes(LENGTH))

    async def flush(segment: aipc.MappedFile, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await segment.flush(wait)

    async with aipc.open_lock(f"fcntl:{path}") as probe, aipc.open_lock(f"fcntl:{path}?owner=process") as lock, lock:
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                with aipc.MappedFile.open(path) as segment:
                    segment.buf[0] = 1
                    await tasks.start(flush, segment)
            assert probe.locked()


@pytest.mark.parametrize("kind", ["segment", "snapshot"])
async def test_posix_shared_memory(kind: str) -> None:
    """Its file is one in /dev/shm."""
    name = new_name()
    with aipc.Snapshot.create(name, 100, unlink=True):
        url = f"fcntl:/dev/shm{name}?create=0"
        async with aipc.open_lock(url) as probe, aipc.open_lock(url, owner="process") as lock, lock:
            (aipc.Snapshot if kind == "snapshot" else aipc.SharedMemory).open(name).close()
            assert probe.locked()
