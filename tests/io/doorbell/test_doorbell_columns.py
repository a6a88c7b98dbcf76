"""A column of the board: claimed as a whole or not at all, cleared by its owner alone, and never left with a call in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aipc._sys.doorbell import table as doorbell_table
from aipc._sys.doorbell.table import ROWS, WAITERS, Call, WaiterTable, calls

from ...peers import isolated, python, run, said
from ...subjects import times
from ..waiters import BOARD, CHILD, close, there

pytestmark = pytest.mark.usefixtures("all_features")

LOOPS = ["asyncio", "uvloop", "trio"]
ROW = 5
TAG = ROW + 7 * ROWS

SHORT_OF_DESCRIPTORS = (
    CHILD
    + """
import resource
from aipc._sys.doorbell import table as doorbell_table
async def fifos(room):
    async with aipc.open_lock(sys.argv[3]) as one, aipc.open_lock(sys.argv[3]) as other:
        await one.acquire()
        one.release()
        await one.acquire()  # the board is open by now
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 100))
        hog = []
        with contextlib.suppress(OSError):
            while True:
                hog.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(room):
            os.close(hog.pop())
        with anyio.move_on_after(0.05), contextlib.suppress(OSError):
            await other.acquire()
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        found = len(os.listdir(sys.argv[2])) - 1
        for fd in hog:
            os.close(fd)
        return found
async def main():
    print({await fifos(room) for room in range(9)})
doorbell_table.DIRECTORY = sys.argv[2]
start(sys.argv[1], main)
"""
)


@pytest.mark.parametrize("loop", LOOPS)
def test_short_of_descriptors(loop: str, bells: Path, url: str) -> None:
    """A wait with 0 to 8 of them: it claims a column, or none, and then no FIFO stays."""
    assert run(sys.executable, "-c", SHORT_OF_DESCRIPTORS, loop, str(bells), url) == "{0, 1}\n"
    assert there(bells) == []


CLAIM = """
import errno, os, resource, sys
from aipc._sys.doorbell import table as doorbell_table
doorbell_table.DIRECTORY = sys.argv[1]
board = doorbell_table.WaiterTable()
used = len(os.listdir("/proc/self/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (used + int(sys.argv[2]), 4096))
try:
    board.claim()
except OSError as error:
    print(errno.errorcode[error.errno], end=" ")
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4096))
print(len(os.listdir(sys.argv[1])), len(os.listdir("/proc/self/fd")) - 1 - used, board.claim().waiter)
board.leave()
"""


@pytest.mark.parametrize("room", [0, 1])
def test_no_descriptor(room: int, bells: Path) -> None:
    """The claim ends with that error: nothing of it stays, and the first column is still free."""
    assert run(sys.executable, "-c", CLAIM, str(bells), str(room)) == "EMFILE 1 0 0\n"


NO_INODES = """
import os, subprocess
from aipc._sys.doorbell import table as doorbell_table
subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "none", "/dev/shm"], check=True)
board = doorbell_table.WaiterTable()
try:
    board.claim()
except OSError as error:
    print(error.errno, os.listdir("/dev/shm") == [doorbell_table.file_name()])
"""


def test_no_room_for_a_fifo() -> None:
    """A file system without inodes left: the claim ends with that error."""
    assert isolated(NO_INODES) == "28 True\n"


def test_removed_by_hand(bells: Path) -> None:
    """The columns of another board are not this one's."""
    board = WaiterTable()
    (bells / BOARD).unlink()
    with pytest.raises(FileNotFoundError):
        board.claim()
    later = WaiterTable()
    with pytest.raises(FileNotFoundError):
        board.claim()
    column = later.claim()
    close(board)
    assert there(bells) == ["", "-0"]
    later.give_back(column)
    close(later)
    assert there(bells) == []


def test_a_new_owner_in_the_place_of_a_dead_one(bells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after the caller found nobody there: its byte stays. No real way hits the moment: the failing open(2) is replaced."""
    caller, newcomer = WaiterTable(), WaiterTable()
    caller.mark(ROW, 0, True)  # a dead one's
    columns = []
    real = os.open

    def open_and_claim(path: str, flags: int, mode: int = 0o777) -> int:
        try:
            return real(path, flags, mode)
        except FileNotFoundError:
            monkeypatch.undo()
            monkeypatch.setattr(doorbell_table, "DIRECTORY", str(bells))
            columns.append(newcomer.claim())
            newcomer.mark(ROW, 0, True)
            raise

    monkeypatch.setattr(os, "open", open_and_claim)
    caller.call(TAG, 1, WAITERS)
    assert caller.line(ROW).raw[0] == 1
    caller.call(TAG, 1, WAITERS)
    assert calls(columns[0]) == [Call(TAG, 0)]
    newcomer.give_back(columns[0])
    close(caller)
    close(newcomer)


def test_a_dead_one_s_column_is_cleared(bells: Path) -> None:
    """All of it, by the first that finds nobody there."""
    board = WaiterTable()
    for row in (ROW, ROW + 1):
        board.mark(row, 3, True)
    board.call(TAG, 0, 1)
    assert board.line(ROW).raw == board.line(ROW + 1).raw == bytes(WAITERS)
    close(board)


TIMES = times(200, 3_000)
COMING_AND_GOING = """
import os, sys
from aipc._sys.doorbell import table as doorbell_table
doorbell_table.DIRECTORY = sys.argv[1]
board = doorbell_table.WaiterTable()
row, wiped = int(sys.argv[2]), 0
for _ in range(int(sys.argv[3])):
    column = board.claim()
    board.mark(row, column.waiter, True)
    for _ in range(3):
        os.sched_yield()
    wiped += not board.line(row).raw[column.waiter]
    board.give_back(column)
print(wiped)
"""


def test_while_waiters_come_and_go(bells: Path) -> None:
    """Nobody clears the byte of one that is there."""
    board = WaiterTable()
    with (
        python(COMING_AND_GOING, str(bells), str(ROW), str(TIMES)) as one,
        python(COMING_AND_GOING, str(bells), str(ROW), str(TIMES)) as other,
    ):
        while one.poll() is None or other.poll() is None:
            board.call(TAG, 0, WAITERS)
        assert said(one) == said(other) == "0"
    close(board)
    assert there(bells) == []


def test_called_while_it_leaves(bells: Path) -> None:
    """What it was called for is passed on: its caller may have relied on it."""
    board = WaiterTable()
    leaving, other = board.claim(), board.claim()
    for column in (leaving, other):
        board.mark(ROW, column.waiter, True)
    assert board.call(TAG, 63, 1) == leaving.waiter
    board.give_back(leaving)
    assert calls(other) == [Call(TAG, 63)]
    board.give_back(other)
    close(board)


def test_called_when_it_has_just_left(bells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cleared its byte, and read its FIFO for the last time, perhaps before it was called: another one is called, too.

    No real way hits the moment: the write(2) is replaced.
    """
    board = WaiterTable()
    leaving, other = board.claim(), board.claim()
    for column in (leaving, other):
        board.mark(ROW, column.waiter, True)
    real = os.write

    def leave_and_write(fd: int, data: bytes) -> int:
        board.clear(leaving.waiter)
        return real(fd, data)

    monkeypatch.setattr(os, "write", leave_and_write)
    assert board.call(TAG, 63, 1) == other.waiter
    assert calls(other) == [Call(TAG, 63)]
    for column in (leaving, other):
        board.give_back(column)
    close(board)
