"""The board's memory: nobody shortens it, and none of it stays, however its processes end."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aipc._sys.doorbell import memory as doorbell_memory
from aipc._sys.doorbell import watching as doorbell_watching
from aipc._sys.doorbell.table import SIZE, WaiterTable
from aipc._sys.sysv import memory as sysv_memory
from aipc._sys.sysv import tables as sysv_tables
from aipc.testing import kernel_objects

from ...peers import isolated, python, run, said, tell
from ...subjects import times
from ..waiters import BOARD, BOARD_WAITER, CHILD, close, there, waiting

pytestmark = pytest.mark.usefixtures("all_features")

LOOPS = ["asyncio", "uvloop", "trio"]

RELEASER = (
    CHILD
    + """
from aipc._sys.doorbell import table as doorbell_table
async def main():
    async with aipc.open_lock(sys.argv[3]) as it:
        for _ in range(2):
            it.acquire_nowait()
            print("acquired", flush=True)
            sys.stdin.readline()
            it.release()
            print("released", flush=True)
            sys.stdin.readline()
doorbell_table.DIRECTORY = sys.argv[2]
start(sys.argv[1], main)
"""
)


def segments() -> list[int]:
    return [row["id"] for row in sysv_tables.rows("sysv-shm")]


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"x" * 100_000)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("spoil", [truncate, overwrite])
def test_a_spoilt_file(spoil: Callable[[Path], None], loop: str, bells: Path, url: str) -> None:
    """Processes that have the board by then go on with it. Who comes later has none, and its pauses do."""
    before = segments()
    with python(RELEASER, loop, str(bells), url) as releaser:
        assert said(releaser) == "acquired"
        tell(releaser, "release")
        assert said(releaser) == "released"
        tell(releaser, "again")
        assert said(releaser) == "acquired"
        with python(BOARD_WAITER, loop, str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            spoil(bells / BOARD)
            with pytest.raises(PermissionError):
                WaiterTable()
            tell(releaser, "release")
            assert (said(releaser), said(waiter)) == ("released", "closed")
            with open(url.partition(":")[2]) as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                with python(BOARD_WAITER, loop, str(bells), "short", url) as late:
                    assert said(late) == "parked"
                    fcntl.flock(held, fcntl.LOCK_UN)
                    assert said(late) == "closed"
    close(WaiterTable())
    assert there(bells) == []
    assert segments() == before


def test_freed_with_the_last_process(bells: Path) -> None:
    """It is removed as soon as it is made, so that it goes with the last one, also with one that is killed."""
    before = segments()
    board = WaiterTable()
    (made,) = (row for row in sysv_tables.rows("sysv-shm") if row["id"] not in before)
    assert doorbell_memory.is_table(made, SIZE, -1)
    assert (made["perms"] & 0o777, made["nattch"], made["uid"]) == (0o600, 1, os.geteuid())
    with python(RELEASER, "asyncio", str(bells), f"flock:{bells}/lock") as other:
        assert said(other) == "acquired"
        tell(other, "release")
        assert said(other) == "released"
        assert [row["nattch"] for row in sysv_tables.rows("sysv-shm") if row["id"] == made["id"]] == [2]
    close(board)
    del board
    assert segments() == before


KILLED = """
import os, signal, sys
from aipc._sys.doorbell import table as doorbell_table
from aipc._sys.sysv import memory as sysv_memory
doorbell_table.DIRECTORY = sys.argv[1]
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before":
    sysv_memory.get = killed
elif sys.argv[2] == "made":
    sysv_memory.attach = lambda *arguments, **options: killed()
elif sys.argv[2] == "attached":
    sysv_memory.remove = killed
else:
    pwrite, os.pwrite = os.pwrite, lambda fd, data, at: killed() if data[:4] == bytes(4) else pwrite(fd, data, at)
doorbell_table.WaiterTable()
"""


@pytest.mark.parametrize("when", ["before", "made", "attached", "removed"])
def test_killed_while_it_is_made(when: str, bells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file tells the next process what there may be; that process removes it, so that it is no leak until then.

    No real way hits the moment: calls are replaced.
    """
    monkeypatch.setattr(doorbell_watching, "DIRECTORY", str(bells))
    before, objects = segments(), kernel_objects()
    with python(KILLED, str(bells), when) as maker:
        assert maker.wait() == -9
    assert there(bells) == [""]
    assert len(segments()) == len(before) + (when in ("made", "attached"))
    assert kernel_objects() == objects
    board = WaiterTable()
    assert len(segments()) == len(before) + 1
    close(board)
    del board
    assert segments() == before
    assert there(bells) == []


def name(identifier: int, mark: bytes, key: int = 0) -> bytes:
    return key.to_bytes(4, sys.byteorder) + identifier.to_bytes(4, sys.byteorder) + mark


def test_another_segment_of_that_number(bells: Path) -> None:
    """The number may be given away again. A segment that does not begin with the mark is left alone, however small it is."""
    mark = b"aipc" + bytes(range(12))
    path = bells / BOARD
    identifier = sysv_memory.get(None, 1, sysv_memory.CREATE | 0o600)
    try:
        path.touch(0o600)
        path.write_bytes(name(identifier, mark))
        with open(path, "rb") as file:
            for _ in range(2):
                with pytest.raises(BlockingIOError):
                    doorbell_memory.attach(file.fileno(), SIZE)
                path.write_bytes(name(identifier + 1, mark))  # there is none of that number
        board = WaiterTable()  # nobody else has it: it is made anew
        assert waiting(board) == 0
        close(board)
        assert sysv_tables.row("sysv-shm", identifier) is not None
    finally:
        sysv_memory.remove(identifier)


@pytest.mark.parametrize("ours", ["attached", "of another size"])
def test_a_key_of_another_segment(ours: str, bells: Path) -> None:
    """Only what a killed process can have left of a board is removed."""
    key = int.from_bytes(os.urandom(3)) + 1
    size = SIZE if ours == "attached" else 100
    identifier = sysv_memory.get(key, size, sysv_memory.CREATE | sysv_memory.EXCLUSIVE | 0o600)
    try:
        memory = sysv_memory.attach(identifier, size, read_only=True) if ours == "attached" else None
        path = bells / BOARD
        path.touch(0o600)
        path.write_bytes(name(-1 % 2**32, b"aipc" + bytes(12), key))
        close(WaiterTable())
        assert sysv_tables.row("sysv-shm", identifier) is not None
        del memory
    finally:
        sysv_memory.remove(identifier)


NO_SEGMENTS = """
import os, subprocess
from pathlib import Path
from aipc._sys.doorbell import table as doorbell_table
subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/shm"], check=True)
Path("/proc/sys/kernel/shmmax").write_text("4096")
try:
    doorbell_table.WaiterTable()
except OSError as error:
    print(error.errno, os.listdir("/dev/shm"))
"""


def test_no_segment() -> None:
    """Then there is no board, and no file of it."""
    assert isolated(NO_SEGMENTS) == "22 []\n"


STORM = """
import os, random, signal, sys, time
from aipc._sys.doorbell import table as doorbell_table
from aipc._sys.doorbell.table import WaiterTable
doorbell_table.DIRECTORY = sys.argv[1]
print("seed", seed := random.randrange(10**6), file=sys.stderr)
def come_and_go():
    while True:
        board = WaiterTable()
        column = board.claim()
        board.mark(5, column.waiter, True)
        board.call(5, column.waiter, 64)
        board.give_back(column)
        board.leave()
        board.forget_fifos()
def started():
    pid = os.fork()
    if pid == 0:
        try:
            come_and_go()
        finally:
            os._exit(1)
    return pid
moments = random.Random(seed)
running = [started() for _ in range(3)]
for _ in range(int(sys.argv[2])):
    time.sleep(moments.random() * 5e-3)
    os.kill(running[0], signal.SIGKILL)
    assert os.waitpid(running.pop(0), 0)[1] == signal.SIGKILL
    running.append(started())
for pid in running:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


@pytest.mark.costly
def test_killed_at_any_moment(bells: Path) -> None:
    """Processes come and go, and are killed: the others go on. What the last ones leave, the next one removes."""
    before = segments()
    assert run(sys.executable, "-c", STORM, str(bells), str(times(60, 200))) == ""
    close(WaiterTable())
    assert there(bells) == []
    assert segments() == before
