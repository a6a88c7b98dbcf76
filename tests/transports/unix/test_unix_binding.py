"""Who may make a socket file, and remove a stale one: one process at a time, whatever others lock or leave there."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...peers import python, said, tell

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(place: Path) -> Path:
    return place / "socket"


@pytest.fixture
def beside(path: Path) -> Path:
    """The file that is locked meanwhile."""
    return path.with_name(".socket.aipc-bind")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def make_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


async def works(path: Path, listener: aipc.Listener) -> None:
    """A message goes from a new connection to the listener."""
    with anyio.fail_after(20):
        async with aipc.open_channel(f"unix:{path}") as ours, await listener.accept() as theirs:
            await ours.send(b"works")
            assert await theirs.receive() == b"works"


@pytest.mark.parametrize("stale", [False, True])
async def test_a_locked_directory_holds_nobody_up(stale: bool, path: Path) -> None:
    """Anybody who may read it can lock it, for as long as they like."""
    if stale:
        make_stale(path)
    with locked(path.parent), anyio.fail_after(20):
        async with aipc.listen(f"unix:{path}") as listener:
            await works(path, listener)
        aipc.remove_object("unix", str(make_and_name(path)))
    assert os.listdir(path.parent) == []


def make_and_name(path: Path) -> Path:
    make_stale(path)
    return path


def open_to_all(beside: Path) -> None:
    beside.touch(0o600)
    beside.chmod(0o666)


def of_another_user(beside: Path) -> None:
    beside.touch(0o600)
    os.chown(beside, 65534, 65534)


@pytest.mark.parametrize(
    "make",
    [
        open_to_all,
        pytest.param(of_another_user, marks=pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")),
        Path.mkdir,
        lambda beside: beside.symlink_to("elsewhere"),
        make_stale,
    ],
    ids=["open to all", "another user's", "directory", "link", "socket"],
)
async def test_what_others_may_lock(make: Callable[[Path], object], path: Path, beside: Path) -> None:
    """It is an error at once, that names it; it is never waited for, used or removed."""
    make_stale(path)
    make(beside)
    before = beside.lstat()
    with anyio.fail_after(20), pytest.raises(aipc.AccessDenied) as caught:
        await aipc.listen(f"unix:{path}")
    assert f"unix:{path}" in str(caught.value)
    assert str(beside) in str(caught.value)
    assert os.path.samestat(beside.lstat(), before)
    assert sorted(os.listdir(path.parent)) == [beside.name, path.name]


async def test_what_a_killed_one_left(path: Path, beside: Path) -> None:
    beside.touch(0o600)
    with anyio.fail_after(20):
        async with aipc.listen(f"unix:{path}") as listener:
            await works(path, listener)
            assert os.listdir(path.parent) == ["socket"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_waits_for_another_process(cancelled: bool, path: Path, beside: Path) -> None:
    beside.touch(0o600)
    opened: list[aipc.Listener] = []

    async def listen() -> None:
        opened.append(await aipc.listen(f"unix:{path}"))

    with anyio.fail_after(20):
        with locked(beside):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await settle()
                assert os.listdir(path.parent) == [beside.name]
                if cancelled:
                    tasks.cancel_scope.cancel()
                else:
                    beside.unlink()
        assert len(opened) == (not cancelled)
        for listener in opened:
            await works(path, listener)
            await listener.aclose()
    assert os.listdir(path.parent) == [beside.name] * cancelled


OVERTAKEN = """
import fcntl, os, sys
import anyio, aipc
from aipc.testing.expect import settle

beside = sys.argv[2]
theirs = []

def another_process(event, arguments):
    if event == "fcntl.flock" and not theirs:
        theirs.append(-1)
        os.unlink(beside)
        theirs.append(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        fcntl.flock(theirs[1], fcntl.LOCK_EX)

async def main():
    async def listen():
        async with aipc.listen(sys.argv[1]):
            print("listening", flush=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await settle()
        print("waits", flush=True)
        os.unlink(beside)
        os.close(theirs[1])

sys.addaudithook(another_process)
anyio.run(main)
"""


def test_a_file_that_has_lost_its_name_is_no_lock(path: Path, beside: Path) -> None:
    """Between a process's open(2) and its flock(2) another one was through, and a third has made the file anew and locked that."""
    with python(OVERTAKEN, f"unix:{path}", str(beside)) as process:
        assert [said(process), said(process)] == ["waits", "listening"]
        assert process.wait(20) == 0
    assert os.listdir(path.parent) == []


RIVAL = """
import sys
import anyio, aipc

async def main():
    for line in sys.stdin:
        try:
            listener = await aipc.listen("unix:" + line.strip())
        except aipc.ObjectExists:
            print("lost", flush=True)
        else:
            print("won", flush=True)
            sys.stdin.readline()
            await listener.aclose()
            print("closed", flush=True)

anyio.run(main)
"""


def test_rivals_for_a_new_name(place: Path) -> None:
    """One wins, also while an earlier winner closes."""
    with python(RIVAL) as one, python(RIVAL) as two:
        for number in range(30):
            for rival in (one, two):
                tell(rival, str(place / "socket"))
            outcome = {rival: said(rival) for rival in (one, two)}
            assert sorted(outcome.values()) == ["lost", "won"], f"round {number}"
            winner, loser = (one, two) if outcome[one] == "won" else (two, one)
            tell(loser, str(place / "socket"))
            assert said(loser) == "lost"
            tell(winner, "close")
            assert said(winner) == "closed"
    assert os.listdir(place) == []


KILLED = """
import os, signal, sys
import anyio, aipc

CALLS = {"open", "fcntl.flock", "os.chmod", "os.remove", "socket.__new__", "socket.bind", "socket.connect"}

def die_before(call):
    def hook(event, arguments):
        nonlocal call
        if event in CALLS:
            if call == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            call -= 1
    sys.addaudithook(hook)

async def listen(url, call):
    opening = aipc.listen(url)
    die_before(call)
    try:
        async with opening:
            pass
    except aipc.ObjectExists:
        pass

aipc.listen(sys.argv[1])  # imports it
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        anyio.run(listen, sys.argv[1], int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def kill_everywhere(path: Path) -> Iterator[None]:
    """Have a process that listens at `path` killed before its first call that matters, before its second, … until it is not."""
    with python(KILLED, f"unix:{path}") as killed:
        for call in range(100):
            tell(killed, str(call))
            ended = said(killed)
            assert ended in ("-9", "0")
            yield
            if ended == "0":
                break


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_while_taking_over(path: Path) -> None:
    """Whatever it had done, the next one can listen there, and leaves nothing."""
    make_stale(path)
    kills = 0
    for _ in kill_everywhere(path):
        async with aipc.listen(f"unix:{path}") as listener:
            await works(path, listener)
        assert os.listdir(path.parent) == []
        make_stale(path)
        kills += 1
    assert kills > 8


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_beside_a_live_listener(path: Path) -> None:
    """Whatever it had done, the listener that was there can be reached."""
    async with aipc.listen(f"unix:{path}") as listener:
        kills = 0
        for _ in kill_everywhere(path):
            await works(path, listener)
            kills += 1
        assert kills > 4
    assert os.listdir(path.parent) == []
