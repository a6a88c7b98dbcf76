"""Who creates a System V semaphore first, and who comes while it is being made: all agree on its value."""

from __future__ import annotations

import asyncio
import os
import signal

import anyio
import pytest

import aipc
from aipc._sys.sysv_semaphore import CREATE, EXCLUSIVE, NOWAIT, SemaphoreSet, operations
from aipc.abc import Lock, Semaphore
from aipc.testing.expect import settle

from ..peers import run


def value_of(lock: Lock) -> int:
    assert isinstance(lock, Semaphore)
    return lock.value


@pytest.mark.parametrize("value", [0, 5])
def test_created_by_many_at_once(value: int, key: str) -> None:
    """64 processes create it; whoever comes first, each sees the value that all asked for."""
    url = f"sysv-sem:{key}"

    async def see() -> int:
        async with aipc.open_lock(url, create=True, value=value) as lock, asyncio.timeout(20):
            return value_of(lock)

    started, start = os.pipe()
    seen, tell_seen = os.pipe()
    children = []
    for _ in range(64):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                os.close(start)
                os.read(started, 1)  # until the parent closes the other end
                os.write(tell_seen, bytes([asyncio.run(see())]))
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    os.close(tell_seen)
    os.close(started)
    os.close(start)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    values = os.read(seen, 100)
    os.close(seen)
    run("ipcrm", "-S", key)
    assert statuses == [0] * 64
    assert list(values) == [value] * 64


@pytest.mark.parametrize("value", [0, 5])
@pytest.mark.anyio
async def test_waits_for_its_creator(value: int, key: str) -> None:
    """A set on which its creator has yet to operate is not open yet; who gives up leaves nothing."""
    made = SemaphoreSet(int(key, 16), 1, CREATE | EXCLUSIVE | 0o600)
    seen: list[int] = []

    async def open_it() -> None:
        async with aipc.open_lock(f"sysv-sem:{key}", create=True, value=value) as lock:
            seen.append(value_of(lock))

    try:
        with anyio.fail_after(10):
            for gives_up in (True, False):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(open_it)
                    await settle()
                    assert seen == []
                    if gives_up:
                        tasks.cancel_scope.cancel()
                    else:
                        made.operate(operations([(0, value)], NOWAIT))
    finally:
        made.remove()
    assert seen == [value]
