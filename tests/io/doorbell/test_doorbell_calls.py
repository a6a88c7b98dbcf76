"""Calls at the doorbell: whom each one reaches, and that it ends."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from aipc._io.doorbell import Doorbell, DoorbellListener
from aipc._io.loop import backend
from aipc._io.loop.reactor import reactor_of
from aipc._sys.doorbell.table import ROWS, Call, Column, WaiterTable, calls, tag_of
from aipc._sys.yielding import YieldToPeer
from aipc.testing.expect import in_child

from ..waiters import BOARD, close, there

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]

ONE = "one"
OTHER = next(name for number in range(100_000) if tag_of(name := f"other {number}") % ROWS == tag_of(ONE) % ROWS)


class Tasks:
    """What waits for an object: it remembers the calls, and has so many tasks to wake."""

    def __init__(self, asleep: int) -> None:
        self.asleep = asleep
        self.calls: list[Call] = []

    def on_notify(self, call: Call) -> bool:
        self.calls.append(call)
        self.asleep -= 1
        return self.asleep >= 0


class Failing:
    def on_notify(self, call: Call) -> bool:
        raise ZeroDivisionError


def listener() -> DoorbellListener:
    return DoorbellListener(reactor_of(backend.current()))


class Row:
    """The listener of this loop has column 1; columns 0 and 2 are other waiters', for objects of the same row."""

    def __init__(self, bells: Path) -> None:
        self._fifo = bells / f"{BOARD}-1"
        self.board = WaiterTable()
        self.first = self.board.claim()
        self.listener = listener()
        self.last = self.board.claim()
        self.one, self.other = Doorbell(ONE), Doorbell(OTHER)
        self.mark(True)

    def mark(self, waits: bool) -> None:
        for column in (self.first, self.last):
            self.board.mark(self.one.row, column.waiter, waits)

    def call(self, *which: Call) -> None:
        """Write into the listener's FIFO."""
        with self._fifo.open("wb", buffering=0) as fifo:
            fifo.write(b"".join(struct.pack("=II", *call) for call in which))

    def close(self) -> None:
        self.one.close()
        self.other.close()
        self.listener.close()
        for column in (self.first, self.last):
            self.board.give_back(column)
        close(self.board)


@pytest.fixture
async def row(bells: Path, anyio_backend: object) -> AsyncIterator[Row]:
    row = Row(bells)
    yield row
    row.close()
    assert there(bells) == []


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not true():
            await anyio.sleep(0)


async def came(column: Column) -> list[Call]:
    with anyio.fail_after(20):
        await anyio.wait_readable(column.fifo)
    return calls(column)


async def test_a_neighbour_in_the_row(row: Row) -> None:
    """A call is for one object: what waits for another one is not told, and the call goes on."""
    one, other = Tasks(1), Tasks(1)
    row.listener.listen(row.other, other)
    row.call(Call(row.one.tag, 0))
    assert await came(row.last) == [Call(row.one.tag, 0)]
    row.listener.listen(row.one, one)
    row.call(Call(row.one.tag, 0), Call(row.other.tag, 0))
    await until(lambda: other.calls)
    assert one.calls == [Call(row.one.tag, 0)]
    assert other.calls == [Call(row.other.tag, 0)]
    assert calls(row.last) == []
    row.listener.leave(row.one, one)
    row.listener.leave(row.other, other)


async def test_a_call_that_nobody_can_use(row: Row) -> None:
    """It goes to the waiters behind, as far as it may, and no further."""
    tasks = Tasks(0)
    row.listener.listen(row.one, tasks)
    mine, last, first = (Call(row.one.tag, until) for until in (1, 2, 0))
    row.call(mine, last, first)
    assert await came(row.last) == [last, first]
    assert tasks.calls == [mine, last, first]
    assert calls(row.first) == []  # each goes to one
    row.mark(False)
    row.call(first)
    await until(lambda: len(tasks.calls) == 4)
    assert calls(row.first) == calls(row.last) == []
    row.listener.leave(row.one, tasks)


async def test_each_call_counts(row: Row) -> None:
    """Two releases called here, for two tasks: the second one is behind. More fit into a FIFO than any row can use."""
    tasks = Tasks(1)
    row.listener.listen(row.one, tasks)
    row.call(*[Call(row.one.tag, 0)] * 2)
    assert await came(row.last) == [Call(row.one.tag, 0)]
    assert len(tasks.calls) == 2
    row.call(*[Call(row.one.tag, 1)] * 512)
    await until(lambda: len(tasks.calls) == 514)
    row.listener.leave(row.one, tasks)


async def test_most(row: Row) -> None:
    """So many are called, in turn; if all are, none passes it on."""
    tasks = Tasks(9)
    row.listener.listen(row.one, tasks)
    row.one.notify(1)
    row.one.notify(1)
    await until(lambda: tasks.calls)
    assert (tasks.calls, calls(row.last), calls(row.first)) == ([Call(row.one.tag, 0)], [Call(row.one.tag, 1)], [])
    row.one.notify(2)
    assert calls(row.first) == [Call(row.one.tag, 2)]
    row.one.notify()
    await until(lambda: len(tasks.calls) == 3)
    assert tasks.calls[1:] == [Call(row.one.tag, 2), Call(row.one.tag, 1)]
    assert (calls(row.first), calls(row.last)) == ([Call(row.one.tag, 0)], [Call(row.one.tag, 2)])
    row.listener.leave(row.one, tasks)


async def test_each_call_of_another_process_is_followed_by_a_yield(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a second one to the only waiter. None if nobody waits, or a loop of this process: it could not run meanwhile."""
    yields: list[None] = []
    monkeypatch.setattr(YieldToPeer, "__call__", lambda _: yields.append(None))
    row.mark(False)
    row.one.notify()
    tasks = Tasks(3)
    row.listener.listen(row.one, tasks)
    row.one.notify()
    assert len(yields) == 0
    row.listener.leave(row.one, tasks)
    row.board.mark(row.one.row, row.last.waiter, True)
    for number in (1, 2, 3):
        row.one.notify()
        assert len(yields) == number


async def test_passed_on_later(row: Row) -> None:
    """By a task that was woken and could not use it, also when the listener is closed by then."""
    row.listener.pass_on(Call(row.one.tag, 0))
    assert calls(row.last) == [Call(row.one.tag, 0)]
    row.listener.pass_on(Call(row.one.tag, 1))
    another = listener()
    another.close()
    another.pass_on(Call(row.one.tag, 0))
    assert calls(row.last) == calls(row.first) == []


async def test_one_that_fails(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged. The others are told all the same, and the doorbell goes on."""
    tasks, failing = [Tasks(2), Tasks(2)], Failing()
    for subscriber in (tasks[0], failing, tasks[1]):
        row.listener.listen(row.one, subscriber)
    for number in (1, 2):
        row.call(Call(row.one.tag, 0))
        await until(lambda number=number: len(tasks[0].calls) == len(tasks[1].calls) == number)
    assert [(record.name, record.levelno) for record in caplog.records] == [("aipc", logging.ERROR)] * 2
    assert "ZeroDivisionError" in caplog.text
    assert calls(row.last) == []
    for subscriber in (tasks[0], failing, tasks[1]):
        row.listener.leave(row.one, subscriber)


async def test_others(row: Row) -> None:
    """Whether anybody else waits: another process, or another object of this loop. A neighbour in the row counts as well."""
    tasks = Tasks(0)
    assert row.one.others_wait(None, tasks) is True
    row.mark(False)
    assert row.one.others_wait(None, tasks) is False
    row.listener.listen(row.one, tasks)
    assert row.one.others_wait(row.listener, tasks) is False
    assert row.one.others_wait(row.listener, Tasks(0)) is True
    row.listener.leave(row.one, tasks)
    assert row.one.others_wait(row.listener, Tasks(0)) is False
    row.one.close()
    assert row.one.others_wait(row.listener, tasks) is None


async def test_no_board(bells: Path) -> None:
    """Nobody knows whether others wait, nobody is called, and nobody can listen."""
    bells.rmdir()
    doorbell = Doorbell(ONE)
    assert doorbell.others_wait(None, Tasks(0)) is None
    doorbell.notify()
    doorbell.close()
    with pytest.raises(FileNotFoundError):
        listener()


async def test_forked_child_that_closes_what_it_has_inherited(row: Row) -> None:
    """That takes nothing from its own doorbells, nor from its parent's."""
    row.one.notify(0)

    def use() -> None:
        row.one.close()
        row.other.close()
        own = Doorbell(ONE)
        assert own.others_wait(None, Tasks(0)) is True
        own.close()

    in_child(use)
    assert row.one.others_wait(None, Tasks(0)) is True
