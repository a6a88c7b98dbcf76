"""Tasks of one process that wait for different numbers of units: whoever could have its own has it, and nobody else's look decides.

The pauses between two looks are an hour here: only being woken by what has changed ends a wait.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from itertools import permutations

import anyio
import pytest

import aipc
from aipc._io import polling
from aipc.abc import Lock, Semaphore
from aipc.locks import base
from aipc.testing.expect import settle, until

from ..conftest import LOOPS
from ..io.waiters import WAITER, loop_of
from ..peers import python, said
from ..subjects import new_key, new_name

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features", "an_hour")]


@pytest.fixture
def an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("FIRST_PAUSE", "RUNG_PAUSE", "LONG_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(polling, pause, 3600.0)
    monkeypatch.setattr(base, "TURN", 3600.0)  # and nobody rests in favour of others


@pytest.fixture(params=["sysv-sem", "posix-sem"])
def url(request: pytest.FixtureRequest) -> str:
    """A counter, which anybody may raise."""
    return f"sysv-sem:{new_key()}?undo=0" if request.param == "sysv-sem" else f"posix-sem:{new_name()}?counter=1"


def fresh(url: str, value: int = 0) -> aipc.Opening[Lock]:
    return aipc.open_lock(url, exclusive=True, unlink=True, value=value)


def counted(lock: Lock) -> Semaphore:
    assert isinstance(lock, Semaphore)
    return lock


class Crowd:
    """Tasks that each wait for so many units of a semaphore; `waiting` are those that do not have them yet."""

    def __init__(self, semaphore: Semaphore) -> None:
        self.semaphore = semaphore
        self.waiting: list[int] = []

    async def join(self, n: int) -> None:
        self.waiting.append(n)
        try:
            await self.semaphore.acquire(n)
        finally:
            self.waiting.remove(n)

    def nobody_is_stranded(self) -> bool:
        return all(n > self.semaphore.value for n in self.waiting)


PORTIONS = ([6], [1] * 6, [2, 2, 2], [3, 3], [1, 2, 3], [5, 1], [2, 1, 3])


@pytest.mark.parametrize("releaser", ["the same object", "another"])
@pytest.mark.parametrize("portions", PORTIONS, ids=str)
async def test_one_two_and_three(portions: list[int], releaser: str, url: str) -> None:
    """In every order of coming: after each release, nobody waits for what is there."""
    with anyio.fail_after(20):
        async with fresh(url) as one, aipc.open_lock(url) as two:
            crowd = Crowd(counted(one))
            releasing = counted(one if releaser == "the same object" else two)
            for order in permutations((1, 2, 3)):
                async with anyio.create_task_group() as tasks:
                    for n in order:
                        tasks.start_soon(crowd.join, n)
                        await until(lambda n=n: n in crowd.waiting)
                    await settle()
                    for portion in portions:
                        releasing.release(portion)
                        await until(crowd.nobody_is_stranded)
                assert releasing.value == 0


@pytest.mark.parametrize("others", [(1,), (2,), (1, 2), (3, 1)], ids=str)
async def test_first_waits_for_more_than_there_will_be(others: tuple[int, ...], url: str) -> None:
    """What is too little for the one that has waited longest is another's; and when that one gives up, nothing changes."""
    with anyio.fail_after(20):
        async with fresh(url) as one:
            crowd = Crowd(counted(one))
            async with anyio.create_task_group() as tasks:
                first = anyio.CancelScope()

                async def wait_for_forty() -> None:
                    with first:
                        await crowd.join(40)

                tasks.start_soon(wait_for_forty)
                await until(lambda: crowd.waiting == [40])
                for n in others:
                    tasks.start_soon(crowd.join, n)
                await settle()
                counted(one).release(others[0])
                await until(crowd.nobody_is_stranded)
                first.cancel()
                await until(lambda: 40 not in crowd.waiting)
                counted(one).release(sum(others) - others[0] + 1)
            assert counted(one).value == 1


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("anyio_backend", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
async def test_cancelled_when_it_is_woken(n: int, url: str, anyio_backend: object) -> None:
    """A wake-up that its task can't use any more is the next one's. On trio there is no such moment: a woken task runs."""
    with anyio.fail_after(20):
        async with fresh(url) as one:
            crowd = Crowd(counted(one))
            for _ in range(20):
                first = asyncio.create_task(crowd.join(n))
                await until(lambda: crowd.waiting == [n])
                second = asyncio.create_task(crowd.join(1))
                await until(lambda: len(crowd.waiting) == 2)
                await settle()
                counted(one).release()
                first.cancel()
                await second
                assert first.cancelled()
                assert counted(one).value == 0


async def test_nobody_waits_for_several_any_more(url: str) -> None:
    """Then one at a time is woken, in the order of coming."""
    with anyio.fail_after(20):
        async with fresh(url) as one:
            semaphore = counted(one)
            with anyio.move_on_after(0.001):
                await semaphore.acquire(2)
            order: list[int] = []

            async def wait(number: int) -> None:
                await semaphore.acquire()
                order.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(wait, number)
                    await settle()
                for number in range(10):
                    semaphore.release()
                    await until(lambda number=number: len(order) == number + 1)
            assert order == [*range(10)]


async def test_all_who_wait_for_zero(url: str) -> None:
    with anyio.fail_after(20):
        async with fresh(url, value=2) as one, aipc.open_lock(url) as two, anyio.create_task_group() as tasks:
            for lock in (one, two, one, two, one):
                tasks.start_soon(counted(lock).wait_zero)
            await settle()
            await counted(two).acquire()
            await settle()
            await counted(one).acquire()


@pytest.mark.parametrize("order", [(3, 1), (1, 3)], ids=str)
async def test_in_several_processes(order: tuple[int, int], url: str, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """A process that has no use for what was given back passes the call on to the one that has."""
    with anyio.fail_after(30):
        async with fresh(url) as one:
            with ExitStack() as stack:
                waiters = {}
                for n in order:
                    arguments = f"aipc.open_lock({url!r})", f"it.acquire({n})"
                    waiters[n] = stack.enter_context(python(WAITER, loop_of(anyio_backend), *arguments))
                    assert said(waiters[n]) == "parked"
                for n in (1, 3):
                    counted(one).release(n)
                    assert said(waiters[n]) == "None"
                assert counted(one).value == 0
