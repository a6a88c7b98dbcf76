"""Segments with a lock beside them: `locked()`."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Segment

from .kinds import Kind


@pytest.mark.anyio
@pytest.mark.parametrize("as_url", [True, False])
async def test_guarded(kind: Kind, as_url: bool, place: Path) -> None:
    """Read, wait, write: without the lock, steps would be lost."""
    url = f"flock:{place}/lock"

    async def count(segment: Segment) -> None:
        for _ in range(20):
            async with segment.locked() as buf:
                value = buf[0]
                await anyio.lowlevel.checkpoint()
                buf[0] = value + 1

    async with aipc.open_lock(url) as lock, aipc.open_lock(url) as another:
        with kind.create(10, lock=url if as_url else lock) as one, kind.open(one, lock=url if as_url else another) as other:
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for segment in (one, one, other):
                        tasks.start_soon(count, segment)
            assert one.buf[0] == 60
            assert not lock.locked()


@pytest.mark.anyio
async def test_guarded_by_nothing(kind: Kind) -> None:
    with kind.create(10) as segment, pytest.raises(RuntimeError, match="lock"):
        async with segment.locked():
            pass
