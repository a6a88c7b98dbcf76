"""Processes that wait for something, for an hour between two looks or as usual; and the board that they are on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aipc._sys.doorbell.table import ROWS, WaiterTable, file_name

CHILD = """
import contextlib, gc, os, sys
import anyio, aipc
from aipc._io import polling

def hour():
    polling.FIRST_PAUSE = polling.RUNG_PAUSE = polling.LONG_PAUSE = polling.LONGEST_PAUSE = 3600.0

def parked():
    return any(isinstance(it, polling.Polling) and it.waiting for it in gc.get_objects())

def start(loop, main):
    anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})

async def enter(stack, text):
    it = eval(text)
    return stack.enter_context(it) if hasattr(it, "__enter__") else await stack.enter_async_context(it)
"""
WAITER = (
    CHILD
    + """
async def main():
    async with contextlib.AsyncExitStack() as stack:
        it = await enter(stack, sys.argv[2])
        async def wait():
            for text in sys.argv[3:]:
                try:
                    print(await eval(text, {"it": it}), flush=True)
                except Exception as error:
                    print(type(error).__name__, flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while not parked():
                await anyio.sleep(0)
            print("parked", flush=True)
hour()
start(sys.argv[1], main)
"""
)


def loop_of(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    name, options = anyio_backend
    return "uvloop" if options else name


BOARD = file_name()
BOARD_WAITER = (
    CHILD
    + """
from aipc._sys.doorbell import table as doorbell_table
async def main():
    async with aipc.open_lock(sys.argv[4]) as it:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.acquire)
            while not parked():
                await anyio.sleep(0)
            print("parked", flush=True)
    print("closed", flush=True)
    sys.stdin.readline()
doorbell_table.DIRECTORY = sys.argv[2]
if sys.argv[3] == "hour":
    hour()
start(sys.argv[1], main)
"""
)


"""Waits for the lock argv[4], with its board in the directory argv[2]; argv[3] is `hour` or not."""


def there(bells: Path) -> list[str]:
    return sorted(entry.removeprefix(BOARD) for entry in os.listdir(bells))


def waiting(board: WaiterTable) -> int:
    """How many waiters the board shows, in all of its rows."""
    return sum(board.line(row).raw.count(1) for row in range(ROWS))


def close(board: WaiterTable) -> None:
    board.leave()
    board.forget_fifos()


@contextmanager
def claimed(board: WaiterTable, number: int) -> Iterator[None]:
    """So many columns are somebody's."""
    columns = [board.claim() for _ in range(number)]
    try:
        assert [column.waiter for column in columns] == list(range(number))
        yield
    finally:
        for column in columns:
            board.give_back(column)
