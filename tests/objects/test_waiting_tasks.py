"""`aipc.waiting_tasks`: which tasks wait, and for what."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import until

pytestmark = pytest.mark.anyio


async def test_tasks_tell_what_they_wait_for(place: Path) -> None:
    ours, theirs = aipc.channel_pair("stream")
    url = f"flock:{place}/lock"
    async with ours, theirs, aipc.lock(url), aipc.open_lock(url) as other, anyio.create_task_group() as tasks:
        assert aipc.waiting_tasks() == []

        async def read() -> None:
            async for _ in theirs:
                pass

        tasks.start_soon(read, name="reader")
        tasks.start_soon(other.acquire, name="locker")
        await until(lambda: len(aipc.waiting_tasks()) == 2)
        assert sorted(aipc.waiting_tasks()) == [
            ("locker", f"{url}: until it is available"),
            ("reader", "unix pair: until it is available to read"),
        ]
        tasks.cancel_scope.cancel()


def test_without_a_loop() -> None:
    with pytest.raises(RuntimeError):
        aipc.waiting_tasks()
