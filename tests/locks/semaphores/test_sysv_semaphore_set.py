"""System V semaphore sets: several steps at once, forms of a key, options, limits; creation by many."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...subjects import times

pytestmark = pytest.mark.anyio

LARGEST = 32_767
SEMOPM = int(Path("/proc/sys/kernel/sem").read_text().split()[2])
Row = aipc.SysVSemaphoreSet


def fresh(key: str, *values: int, **options: Any) -> Row:
    """A new set, which goes when it is closed."""
    return Row(key, exclusive=True, unlink=True, values=values or (0, 0, 0), **options)


async def test_several_steps_at_once(key: str) -> None:
    """All or none, in order."""
    with anyio.fail_after(10):
        async with fresh(key, 1, 2, 0) as row:
            await row.operate([(0, -1), (1, -2), (2, 3)])
            assert row.values == [0, 0, 3]
            with pytest.raises(anyio.WouldBlock):
                row.operate_nowait([(2, -1), (1, -1)])
            assert row.values == [0, 0, 3]
            row.operate_nowait([(0, 0), (0, 5), (0, -2), (2, -3)])
            assert row.values == [3, 0, 0]
            with pytest.raises(anyio.WouldBlock):
                row.operate_nowait([(1, -1), (1, 1)])  # the first step could not be done, whatever the second is


async def test_waiting_for_several(key: str) -> None:
    """A waiting task takes nothing before it can have all; a step of 0 waits for zero."""
    with anyio.fail_after(10):
        async with fresh(key, 1, 0, 1) as row, Row(key) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.operate, [(0, -1), (1, -1), (2, 0), (2, 1)])
                await settle()
                assert row.values == [1, 0, 1]
                row.set_value(1, 1)
                await settle()
                assert row.values == [1, 1, 1]
                await row.operate([(2, -1)])
            assert row.values == [0, 0, 1]


async def test_steps_that_build_on_each_other(key: str) -> None:
    """One step adds what the next one takes: with another's one unit there is enough for both."""
    with anyio.fail_after(10):
        async with fresh(key, 0) as row, Row(key) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(row.operate, [(0, 1), (0, -2)])
                await settle()
                await other.operate([(0, 1)])
            assert row.values == [0]


async def test_keeps_nothing_of_what_it_waited_for(key: str) -> None:
    """Neither after a success, nor after an error, a cancellation or a call that need not wait."""
    forgotten: list[int] = []

    class Delta(int):
        def __del__(self) -> None:
            forgotten.append(int(self))

    with anyio.fail_after(10):
        async with fresh(key, 0) as row:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(row.operate, [(0, Delta(-1))])
                await settle()
                await row.operate([(0, Delta(1))])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(row.operate, [(0, Delta(-2))])
                await settle()
                tasks.cancel_scope.cancel()
            with pytest.raises(aipc.LimitExceeded):
                await row.operate([(0, Delta(LARGEST)), (0, 1)])
            gc.collect()
            assert sorted(forgotten) == [-2, -1, 1, LARGEST]


async def test_many_waiting_tasks(key: str) -> None:
    """Each gets its own, on one object and on two, however it comes about."""
    done: list[int] = []

    async def take(row: Row, index: int) -> None:
        await row.operate([(index, -2)])
        done.append(index)

    with anyio.fail_after(20):
        async with fresh(key, *[0] * 10) as row, Row(key) as other:
            async with anyio.create_task_group() as tasks:
                for index in range(10):
                    tasks.start_soon(take, (row, other)[index % 2], index)
                await settle()
                row.set_values([1] * 10)
                await settle()
                assert done == []
                for index in (9, 0, 5):
                    await row.operate([(index, 1)])
                while len(done) < 3:
                    await settle()
                assert sorted(done) == [0, 5, 9]
                row.set_values([2] * 10)
            assert sorted(done) == [*range(10)]
            assert row.values == [2, 0, 0, 0, 0, 2, 0, 0, 0, 2]  # who had theirs left the new ones alone


async def test_cancelled(key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, 1, 0) as row:
            for _ in range(5):
                with anyio.move_on_after(0.001):
                    await row.operate([(0, -1), (1, -1)])
                    pytest.fail("not all could be had")
            row.set_value(1, 1)
            await settle()
            assert row.values == [1, 1]


@pytest.mark.parametrize(
    "form",
    [
        lambda number: number,
        hex,
        str,
        lambda number: f"sysv-sem:{number}",
        lambda number: f"{number}?undo=1",
        lambda number: f"sysv-sem:{number:#x}?create=1&count=2",
    ],
)
async def test_forms_of_a_key(form: Any, key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key, 4, 5) as row, Row(form(int(key, 16))) as other:
            assert (other.values, len(other), other.identifier) == ([4, 5], 2, row.identifier)
        upper = int(key, 16) - (1 << 31)
        async with fresh(hex(upper + (1 << 32)), 7), Row(upper) as other:
            assert other.values == [7]


async def test_private_and_ftok(place: Path) -> None:
    with anyio.fail_after(10):
        async with Row("private", count=2) as one, Row(None, values=[7]) as other:
            assert (one.values, other.values) == ([1, 1], [7])
        path = place / "of a key"
        path.touch()
        async with Row(path, project=3, exclusive=True, unlink=True, value=6) as row, Row(f"{path}?project=3") as other:
            assert row.identifier == other.identifier
            assert other.values == [6]


async def test_awaited(key: str) -> None:
    with anyio.fail_after(10):
        opening = Row(key, exclusive=True, unlink=True)
        with pytest.raises(RuntimeError, match="not open yet"):
            opening.values  # noqa: B018
        with pytest.raises(RuntimeError, match="not open yet"):
            await opening.operate([(0, 1)])
        await opening.aclose()  # nothing to close
        row = await opening
        async with row:
            assert row.values == [1]
        await row.aclose()
        for call in (
            lambda: row.values,
            lambda: row.operate_nowait([(0, 1)]),
            lambda: row.set_values([1]),
            row.remove,
        ):
            with pytest.raises(anyio.ClosedResourceError):
                call()
        with pytest.raises(aipc.ObjectMissing, match=key):
            await Row(key)
        assert key in repr(row)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 0}, "count"),
        ({"value": -1}, "value"),
        ({"value": LARGEST + 1}, "value=32768"),
        ({"values": [1, -1]}, "value=-1"),
        ({"values": []}, "values="),
        ({"values": [1], "value": 2}, "values="),
        ({"values": [1], "count": 2}, "values="),
        ({"shared": True}, "unknown option 'shared'"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str, key: str) -> None:
    with pytest.raises(aipc.AddressError, match=re.escape(text)):
        Row(key, create=True, **options)


@pytest.mark.parametrize("bad", ["", "text", "0", 0, 1 << 32, "//1", "flock:/tmp/x"])
async def test_bad_key(bad: Any) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError):
        await Row(bad, create=True, unlink=True)


async def test_bad_steps(key: str) -> None:
    """Nothing changes, and the error says what would be right."""
    with anyio.fail_after(10):
        async with fresh(key, 1, LARGEST) as row:
            for steps, error, text in (
                ([], ValueError, "no steps"),
                ([(2, 1)], aipc.AddressError, "index=2: the set has 2 semaphores, 0 to 1"),
                ([(-1, 1)], aipc.AddressError, "index=-1"),
                ([(1 << 16, 1)], aipc.AddressError, "index=65536"),
                ([(0, 1 << 16)], aipc.LimitExceeded, "32,767"),
                ([(0, -(1 << 15))], aipc.LimitExceeded, "32,767"),
                ([(0, 1), (1, 1)], aipc.LimitExceeded, key),
                ([(0, 1)] * (SEMOPM + 1), aipc.LimitExceeded, f"{SEMOPM:,} .SEMOPM"),
            ):
                with pytest.raises(error, match=text):
                    await row.operate(steps)
                with pytest.raises(error, match=text):
                    row.operate_nowait(steps)
            for values, error in (
                ([1], ValueError), ([1, 2, 3], ValueError), ([LARGEST + 1, 0], aipc.LimitExceeded), ([0, -1], aipc.LimitExceeded),
                ([1 << 16, 0], aipc.LimitExceeded),
            ):  # fmt: skip
                with pytest.raises(error):
                    row.set_values(values)
            for index, value, error in (
                (2, 0, aipc.AddressError),
                (0, LARGEST + 1, aipc.LimitExceeded),
                (0, -1, aipc.LimitExceeded),
            ):
                with pytest.raises(error):
                    row.set_value(index, value)
            assert row.values == [1, LARGEST]
            await row.operate([(0, 1)] * SEMOPM)
            assert row.values == [1 + SEMOPM, LARGEST]


async def test_more_semaphores_than_operations(key: str) -> None:
    """A set larger than one semop(2) is made with all its values; one larger than the kernel takes leaves nothing."""
    values = [number % 100 for number in range(2 * SEMOPM)]
    with anyio.fail_after(10):
        async with fresh(key, *values) as row, Row(key, create=True) as other:
            assert other.values == row.values == values
        with pytest.raises(aipc.LimitExceeded, match=r"more semaphores.*SEMMSL.*kernel\.sem"):
            await Row(key, create=True, count=60_000)
        with pytest.raises(aipc.ObjectMissing):
            await Row(key)


async def test_closed_under_a_waiting_task(key: str) -> None:
    async def expect_closed(row: Row) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await row.operate([(0, -1)])

    with anyio.fail_after(10):
        async with fresh(key), anyio.create_task_group() as tasks:
            other = await Row(key)
            tasks.start_soon(expect_closed, other)
            await settle()
            await other.aclose()


async def test_of_a_parent(key: str) -> None:
    with anyio.fail_after(10):
        async with fresh(key) as row:
            pid = os.fork()
            if pid == 0:
                try:
                    row.values  # noqa: B018
                except aipc.ForkedError:
                    os._exit(7)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.costly
def test_created_by_many_at_once(key: str) -> None:
    """Many processes create it; each sees the values that all asked for, and all their additions count."""
    wanted = [3, 0, 5]

    async def work() -> int:
        async with Row(key, create=True, values=wanted) as row, asyncio.timeout(20):
            seen = row.values
            await row.operate([(1, 1)])
            return seen[0] == wanted[0] and seen[2] == wanted[2]

    started, start = os.pipe()
    children = []
    for _ in range(processes := times(16, 64)):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(20)
                os.close(start)
                os.read(started, 1)  # until the parent closes the other end
                status = 0 if asyncio.run(work()) else 2
            finally:
                os._exit(status)
        children.append(pid)
    os.close(started)
    os.close(start)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * processes

    async def total() -> list[int]:
        async with Row(key, unlink=True) as row:
            return row.values

    assert asyncio.run(total()) == [3, processes, 5]
