"""Two objects whose names fall on one row of the board: what happens to the one does not keep the other one waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

import aipc
from aipc._sys.doorbell.table import ROWS, tag_of

from ...peers import python, said, tell
from ..waiters import CHILD, loop_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("all_features")]

TURNS = (
    CHILD
    + """
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        for _ in range(int(sys.argv[3])):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(it.acquire)
                while not parked():
                    await anyio.sleep(0)
                print("parked", flush=True)
            it.release()
            print("released", flush=True)
            sys.stdin.readline()
hour()
start(sys.argv[1], main)
"""
)


def on_one_row(place: Path) -> tuple[str, str]:
    """Names of two lock files."""
    first = f"{place}/lock"
    row = tag_of(f"file {first}") % ROWS
    return first, next(path for number in range(100_000) if tag_of(f"file {(path := f'{place}/{number}')}") % ROWS == row)


async def test_a_release_of_one_with_waiters_for_both(place: Path, anyio_backend: tuple[str, dict[str, bool]]) -> None:
    """Each release calls one waiter of the row; if that one waits for the other lock, it passes the call on.

    The waiters pause for an hour between two looks, so that only a call can have woken them.
    """
    one, other = on_one_row(place)
    loop = loop_of(anyio_backend)
    async with aipc.open_lock(f"flock:{one}") as ours, aipc.open_lock(f"flock:{other}") as held:
        held.acquire_nowait()
        with (
            python(TURNS, loop, f"flock:{other}", "1") as before,
            python(TURNS, loop, f"flock:{other}", "1") as behind,
        ):
            ours.acquire_nowait()
            assert said(before) == "parked"
            with python(TURNS, loop, f"flock:{one}", "4") as waiter:
                assert said(waiter) == "parked"
                assert said(behind) == "parked"
                for _ in range(3):
                    ours.release()
                    assert said(waiter) == "released"
                    ours.acquire_nowait()
                    tell(waiter, "again")
                    assert said(waiter) == "parked"
