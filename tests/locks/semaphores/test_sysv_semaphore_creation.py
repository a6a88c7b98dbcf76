"""Who creates a System V semaphore first, and who comes while it is being made: all agree on its value."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import aipc
from aipc._sys.sysv.semaphore import CREATE, EXCLUSIVE, NOWAIT, SemaphoreSet, operations
from aipc.abc import Lock, Semaphore
from aipc.locks import sysv_opening
from aipc.testing.expect import settle

from ...peers import run
from ...subjects import times


def value_of(lock: Lock) -> int:
    assert isinstance(lock, Semaphore)
    return lock.value


PROCESSES = times(16, 64)


@pytest.mark.costly
@pytest.mark.parametrize("value", [0, 5])
def test_created_by_many_at_once(value: int, key: str) -> None:
    """Many processes create it; whoever comes first, each sees the value that all asked for."""
    url = f"sysv-sem:{key}"

    async def see() -> int:
        async with aipc.open_lock(url, create=True, value=value) as lock, asyncio.timeout(20):
            return value_of(lock)

    started, start = os.pipe()
    seen, tell_seen = os.pipe()
    children = []
    for _ in range(PROCESSES):
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
    assert statuses == [0] * PROCESSES
    assert list(values) == [value] * PROCESSES


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


def killed_too_soon(made: SemaphoreSet) -> None:
    """Between semget(2) and all else."""


MAKERS: dict[str, tuple[Callable[[SemaphoreSet], None], int]] = {
    "killed too soon": (killed_too_soon, 0),
    "SETVAL": (lambda made: made.set_value(1, 3), 3),
    "SETALL": (lambda made: made.set_values([2, 3]), 3),
}
"""What each does after semget(2), and the second semaphore's value then."""


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.anyio
async def test_nobody_has_operated_on_it(maker: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A creator that died, or one that needs no semop(2): an error that names the state and both ways out, and they work."""
    assert sysv_opening.PATIENCE == 1  # as the reference page says
    monkeypatch.setattr(sysv_opening, "PATIENCE", 0.02)
    made = SemaphoreSet(int(key, 16), 2, CREATE | EXCLUSIVE | 0o600)
    initialise, value = MAKERS[maker]
    initialise(made)
    openers: list[Callable[..., Any]] = [
        lambda **options: aipc.open_lock(f"sysv-sem:{key}", count=2, index=1, **options),
        lambda **options: aipc.SysVSemaphoreSet(key, count=2, **options),
    ]
    try:
        with anyio.fail_after(20):
            for opener in openers:
                with pytest.raises(aipc.WrongObject, match=rf"{key}.*sem_otime.*`ipcrm -s {made.id}`.*adopt=1"):
                    await opener(create=True)
                for options in ({"create": True, "adopt": True}, {}):
                    async with opener(**options) as taken:
                        assert (taken.values[1] if isinstance(taken, aipc.SysVSemaphoreSet) else taken.value) == value
    finally:
        made.remove()


@pytest.mark.anyio
async def test_removed_while_it_is_waited_for(key: str) -> None:
    """Then a new one is made; what another one has made by that key meanwhile is not taken for it."""
    half = SemaphoreSet(int(key, 16), 1, CREATE | EXCLUSIVE | 0o600)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def open_it() -> None:
                async with aipc.open_lock(f"sysv-sem:{key}", create=True, unlink=True, value=5) as lock:
                    assert value_of(lock) == 4

            tasks.start_soon(open_it)
            await settle()
            half.remove()
            other = SemaphoreSet(int(key, 16), 1, CREATE | EXCLUSIVE | 0o600)
            other.operate(operations([(0, 4)], NOWAIT))


def test_with_adopt_a_new_set_has_the_values_asked_for(key: str) -> None:
    async def see() -> int:
        async with aipc.open_lock(f"sysv-sem:{key}?create=1&adopt=1&value=7", unlink=True) as lock:
            return value_of(lock)

    assert asyncio.run(see()) == 7
