"""An object that is removed under its waiters: each learns of it at once, whatever it waits for, and so does every later call.

The pauses between two looks are an hour here: only being woken by the removal ends a wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import aipc
from aipc._io import polling
from aipc.locks import base
from aipc.testing.expect import settle

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features", "an_hour")]


@pytest.fixture
def an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("FIRST_PAUSE", "RUNG_PAUSE", "LONG_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(polling, pause, 3600.0)
    monkeypatch.setattr(base, "TURN", 3600.0)


def semaphore(key: str, **options: Any) -> Any:
    return aipc.open_lock(f"sysv-sem:{key}", value=1, undo=False, **options)


def semaphore_set(key: str, **options: Any) -> Any:
    return aipc.SysVSemaphoreSet(key, count=2, **options)


def barrier(key: str, **options: Any) -> Any:
    return aipc.Barrier(key, 4, **options)


def nothing(it: Any) -> None:
    """It makes others wait as it is."""


async def condition_waits(it: Any) -> None:
    async with it:
        await it.wait()


Kind = Callable[..., Any]
WAITS: dict[str, tuple[Kind, Callable[[Any], object], Callable[[Any], Awaitable[object]]]] = {
    "semaphore": (semaphore, lambda it: it.acquire_nowait(), lambda it: it.acquire()),
    "semaphore, several": (semaphore, nothing, lambda it: it.acquire(2)),
    "semaphore, zero": (semaphore, nothing, lambda it: it.wait_zero()),
    "set": (semaphore_set, nothing, lambda it: it.operate([(0, -1), (1, -2)])),
    "set, zero": (semaphore_set, nothing, lambda it: it.operate([(1, 0)])),
    "event": (aipc.Event, nothing, lambda it: it.wait()),
    "barrier": (barrier, nothing, lambda it: it.wait()),
    "condition": (aipc.Condition, lambda it: it.acquire_nowait(), lambda it: it.acquire()),
    "condition, notification": (aipc.Condition, nothing, condition_waits),
    "reader": (aipc.RWLock, lambda it: it.writer.acquire_nowait(), lambda it: it.reader.acquire()),
    "writer": (aipc.RWLock, lambda it: it.reader.acquire_nowait(), lambda it: it.writer.acquire()),
}
"""How to open it, how to make others wait, and what then waits."""


async def remove(it: Any, key: str) -> None:
    it.remove()


async def close(it: Any, key: str) -> None:
    await it.aclose()


async def remove_by_key(it: Any, key: str) -> None:
    aipc.remove_object("sysv-sem", key)


@pytest.mark.parametrize("way", [remove, close, remove_by_key], ids=lambda way: way.__name__)
@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("name", WAITS)
async def test_waiting_tasks_learn_of_it(name: str, here: bool, way: Callable[[Any, str], Awaitable[None]], key: str) -> None:
    """Those of another object, and with `here` one of the object that removes it."""
    opened, block, wait = WAITS[name]
    if way is remove and opened is semaphore:
        way = remove_by_key  # a lock has no `remove`
    learnt: list[str] = []

    async def expect(it: Any, who: str) -> None:
        with pytest.raises((aipc.ObjectRemoved, anyio.ClosedResourceError)) as caught:
            await wait(it)
        learnt.append(f"{who} {caught.typename}")

    with anyio.fail_after(20):
        one = await opened(key, create=True, exclusive=True, unlink=True)
        async with opened(key) as other:
            block(one)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect, other, "other")
                tasks.start_soon(expect, other, "other")
                if here:
                    tasks.start_soon(expect, one, "one")
                await settle()
                assert learnt == []
                await way(one, key)
            own = "one ClosedResourceError" if way is close else "one ObjectRemoved"
            assert sorted(learnt) == [own] * here + ["other ObjectRemoved"] * 2
            with pytest.raises(aipc.ObjectRemoved, match=key):
                await wait(other)
        await one.aclose()
