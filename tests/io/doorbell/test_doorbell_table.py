"""The board in a directory of the test's own: who is in it, what killed processes leave, what hostile names do."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys.doorbell import table as doorbell_table
from aipc._sys.doorbell.table import NOBODY, ROWS, WAITERS, Call, WaiterTable, calls, tag_of

from ...peers import isolated, python, run, said, tell
from ..waiters import BOARD, BOARD_WAITER, claimed, close, there, waiting

pytestmark = pytest.mark.usefixtures("all_features")

LOOPS = ["asyncio", "uvloop", "trio"]


@pytest.mark.anyio
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_there_while_somebody_waits(loop: str, bells: Path, url: str) -> None:
    """A board and a FIFO, for this user only. The last one to close leaves nothing; before that it need not end."""
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with python(BOARD_WAITER, loop, str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            assert there(bells) == ["", "-0"]
            board, fifo = (os.stat(bells / (BOARD + end)) for end in ("", "-0"))
            assert stat.filemode(board.st_mode) == "-rw-------"
            assert stat.filemode(fifo.st_mode) == "prw-------"
            ours.release()
            assert said(waiter) == "closed"
            assert there(bells) == [""]  # this process has rung
    assert there(bells) == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_waiters(bells: Path, url: str) -> None:
    """The next one takes over a column, and the last one removes what no one took over."""
    board = WaiterTable()
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        killed(bells, url)
        with python(BOARD_WAITER, "asyncio", str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            assert there(bells) == ["", "-0", "-1", "-2"]
            assert waiting(board) == 3  # the first of the dead ones' is its own now
            ours.release()
            assert said(waiter) == "closed"
            assert waiting(board) == 0  # the call found two of them gone
    close(board)
    assert there(bells) == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_all_killed(bells: Path, url: str) -> None:
    """The memory went with them. The next one makes a new one, and removes their FIFOs."""
    with open(url.partition(":")[2], "w") as file:  # no object of ours: it would be in the table
        fcntl.flock(file, fcntl.LOCK_EX)
        killed(bells, url)
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with python(BOARD_WAITER, "asyncio", str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            assert there(bells) == ["", "-0"]
            ours.release()
            assert said(waiter) == "closed"
    assert there(bells) == []


def killed(bells: Path, url: str) -> None:
    """A waiter on each loop, killed while it waits."""
    with ExitStack() as stack:
        waiters = [stack.enter_context(python(BOARD_WAITER, loop, str(bells), "hour", url)) for loop in LOOPS]
        assert [said(waiter) for waiter in waiters] == ["parked"] * 3
        assert there(bells) == ["", "-0", "-1", "-2"]
        for waiter in waiters:
            waiter.kill()
            waiter.wait()
    assert there(bells) == ["", "-0", "-1", "-2"]


@pytest.mark.anyio
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_waiter_in_the_place_of_one_that_was_rung(loop: str, bells: Path, url: str) -> None:
    """The ringer still has the FIFO open that the first one listened to: it goes over to the one that is there now."""
    async with aipc.open_lock(url) as ours:
        for _ in range(3):
            ours.acquire_nowait()
            with python(BOARD_WAITER, loop, str(bells), "hour", url) as waiter:
                assert said(waiter) == "parked"
                assert there(bells) == ["", "-0"]
                ours.release()
                assert said(waiter) == "closed"
    assert there(bells) == []


@pytest.mark.anyio
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_as_many_waiters_as_there_is_room_for_and_one_more(loop: str, bells: Path, url: str) -> None:
    """The 64th is rung; the 65th comes through by its pauses."""
    board = WaiterTable()
    async with aipc.open_lock(url) as ours:
        for others, pauses in ((WAITERS - 1, "hour"), (WAITERS, "short")):
            ours.acquire_nowait()
            with claimed(board, others), python(BOARD_WAITER, loop, str(bells), pauses, url) as waiter:
                assert said(waiter) == "parked"
                assert len(there(bells)) == 1 + WAITERS
                ours.release()
                assert said(waiter) == "closed"
        with claimed(board, WAITERS), pytest.raises(BlockingIOError):
            board.claim()
    close(board)
    assert there(bells) == []


def missing(bells: Path) -> None:
    bells.rmdir()


def symlink(bells: Path) -> None:
    (bells / "elsewhere").write_bytes(b"")
    (bells / BOARD).symlink_to("elsewhere")


def dangling_symlink(bells: Path) -> None:
    (bells / BOARD).symlink_to("nowhere")


def directory(bells: Path) -> None:
    (bells / BOARD).mkdir()


def readable_by_others(bells: Path) -> None:
    (bells / BOARD).write_bytes(bytes(100_000))
    (bells / BOARD).chmod(0o644)


def fifo(bells: Path) -> None:
    os.mkfifo(bells / BOARD, 0o600)


HOSTILE = [missing, symlink, dangling_symlink, directory, readable_by_others, fifo]


@pytest.mark.anyio
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_board_to_be_had(hostile: object, loop: str, bells: Path, url: str) -> None:
    """Then there are no bells, what is there stays as it is, and the pauses do."""
    hostile(bells)  # type: ignore[operator]
    before = [(path, path.lstat()) for path in bells.glob("*")]
    with pytest.raises(OSError, match=r"\[Errno"):
        WaiterTable()
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with python(BOARD_WAITER, loop, str(bells), "short", url) as waiter:
            assert said(waiter) == "parked"
            ours.release()
            assert said(waiter) == "closed"
    after = [(path, path.lstat()) for path in bells.glob("*")]
    assert [(path, about.st_mode, about.st_size, about.st_mtime) for path, about in after] == [
        (path, about.st_mode, about.st_size, about.st_mtime) for path, about in before
    ]


def test_removed_for_ever(bells: Path) -> None:
    """A process that is stopped while it removes the board: others give up, and go without."""
    path = bells / BOARD
    path.touch(0o600)
    fd = os.open(path, os.O_RDWR)
    try:
        doorbell_table.byte_locks.lock(fd, doorbell_table._PRESENT, shared=False, process=False)
        with pytest.raises(BlockingIOError):
            WaiterTable()
    finally:
        os.close(fd)
    board = WaiterTable()
    close(board)
    assert there(bells) == []


@pytest.mark.anyio
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_something_else_in_the_place_of_a_fifo(loop: str, bells: Path, url: str) -> None:
    """That column is left alone; what is there stays."""
    (bells / f"{BOARD}-0").write_text("a file")
    (bells / f"{BOARD}-1").symlink_to(f"{BOARD}-0")
    (bells / f"{BOARD}-2").mkdir()
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with python(BOARD_WAITER, loop, str(bells), "hour", url) as waiter:
            assert said(waiter) == "parked"
            assert there(bells) == ["", "-0", "-1", "-2", "-3"]
            ours.release()
            assert said(waiter) == "closed"
    assert there(bells) == ["-0", "-1", "-2"]
    assert (bells / f"{BOARD}-0").read_text() == "a file"


LIMITED = """
import os, resource, sys
from aipc._sys.doorbell import table as doorbell_table
doorbell_table.DIRECTORY = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    doorbell_table.WaiterTable()
except OSError as error:
    print(error.errno, os.listdir(sys.argv[1]))
"""

FULL = """
import os, subprocess
from contextlib import suppress
from aipc._sys.doorbell import table as doorbell_table
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", "/dev/shm"], check=True)
with suppress(OSError), open("/dev/shm/full", "wb", buffering=0) as file:
    while True:
        file.write(bytes(4096))
try:
    doorbell_table.WaiterTable()
except OSError as error:
    print(error.errno, os.listdir("/dev/shm"))
"""


def test_no_room(bells: Path) -> None:
    """No board then; the empty file does not stay."""
    assert run(sys.executable, "-c", LIMITED, str(bells)) == "27 []\n"
    assert isolated(FULL) == "28 ['full']\n"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_cleared_byte_is_stored_again(bells: Path, url: str) -> None:
    """Whatever went wrong on the board lasts for one pause."""
    async with aipc.open_lock(url) as ours:
        ours.acquire_nowait()
        with python(BOARD_WAITER, "asyncio", str(bells), "short", url) as waiter:
            assert said(waiter) == "parked"
            board = WaiterTable()
            row = tag_of(f"file {url.removeprefix('flock:')}") % ROWS
            first = b"\1" + bytes(WAITERS - 1)
            assert board.line(row).raw == first
            board.mark(row, 0, False)
            with anyio.fail_after(30):
                while board.line(row).raw == NOBODY:
                    await anyio.sleep(0)
            assert board.line(row).raw == first
            close(board)
            ours.release()
            assert said(waiter) == "closed"


RINGER = """
import asyncio, signal, sys
import aipc
from aipc._sys.doorbell import table as doorbell_table
from aipc._sys.signals import sigpipe
doorbell_table.DIRECTORY = sys.argv[1]
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
async def main():
    async with aipc.open_lock(sys.argv[2]) as it:
        for _ in range(2):
            sys.stdin.readline()
            it.acquire_nowait()
            print("acquired", flush=True)
            sys.stdin.readline()
            it.release()
        print(sigpipe.deadly, signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
asyncio.run(main())
"""


def test_where_sigpipe_would_end_the_process(bells: Path, url: str) -> None:
    """A ring is guarded there: who was rung before may be gone, or be killed in the middle of it."""
    with python(RINGER, str(bells), url) as ringer:
        for _ in range(2):
            tell(ringer, "acquire")
            assert said(ringer) == "acquired"
            with python(BOARD_WAITER, "asyncio", str(bells), "hour", url) as waiter:
                assert said(waiter) == "parked"
                tell(ringer, "release")
                assert said(waiter) == "closed"
        assert said(ringer).startswith("True ")


def test_what_is_written_into_a_fifo(bells: Path) -> None:
    """Parts of a call, and waiters that there are not, do no harm. A call that came twice counts twice."""
    board = WaiterTable()
    column = board.claim()

    def read(data: bytes) -> list[Call]:
        os.write(column.fifo, data)
        return calls(column)

    assert calls(column) == read(b"1234567") == []
    five = b"".join(number.to_bytes(4, sys.byteorder) for number in (5, 63))
    assert read(2 * five + b"x") == [Call(5, 63)] * 2
    assert all(until < WAITERS for _, until in read(bytes(range(256)) * 2))
    board.give_back(column)
    close(board)
