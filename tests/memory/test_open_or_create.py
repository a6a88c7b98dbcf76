"""Open or create: one makes the segment and prepares it, whoever else comes sees all of that, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys.processes import Process
from aipc.abc import Segment
from aipc.memory import creation
from aipc.memory import sysv as sysv_memory

from ..peers import compile_peer, python, run, said, tell, wait_ended
from ..subjects import new_name
from ..subjects.counts import times
from .kinds import Kind


@pytest.fixture(params=["posix", "sysv", "file"])
def named(request: pytest.FixtureRequest, place: Path) -> Kind:
    return Kind(request.param, place)


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("segment", tmp_path_factory))


def either(kind: Kind, size: int, prepare: creation.Prepare | None = None) -> Segment:
    segment: Segment = kind.cls.open_or_create(kind.known, size, prepare=prepare)
    return segment


def test_makes_and_opens(named: Kind) -> None:
    prepared: list[int] = []

    def prepare(view: memoryview) -> None:
        prepared.append(len(view))
        view[4999] = 7

    with either(named, 5000, prepare) as one, either(named, 5000, prepare) as other, named.cls.open(named.known) as third:
        assert prepared == [5000]
        assert one.size == other.size == third.size == 5000
        assert one.buf[4999] == other.buf[4999] == third.buf[4999] == 7
        one.buf[0] = 1
        assert other.buf[0] == 1
        one.unlink()


def test_zero_bytes_without_a_preparation(named: Kind) -> None:
    with either(named, 5000) as one, either(named, 100) as other:
        assert other.size == 5000
        assert bytes(one.buf) == bytes(5000)
        one.unlink()


def test_a_smaller_one_is_there(named: Kind) -> None:
    with named.create(100):
        with pytest.raises(aipc.WrongObject, match="100 bytes, fewer than size=101"):
            either(named, 101)
        either(named, 100).close()


def test_a_failed_preparation_leaves_nothing(named: Kind) -> None:
    with pytest.raises(ZeroDivisionError):
        either(named, 100, lambda view: 1 // 0)
    with pytest.raises(aipc.ObjectMissing):
        named.cls.open(named.known)
    with either(named, 100) as segment:
        segment.unlink()


RACER = """
import os, sys, aipc
kind, known, times = sys.argv[1:]
cls = getattr(aipc, kind)
seen = 0
def prepare(view):
    view[:] = bytes([1]) * len(view)
for turn in range(int(times)):
    name = hex(int(known, 0) + turn) if kind == "SysVSharedMemory" else known + str(turn)
    sys.stdin.readline()
    with cls.open_or_create(name, 40_000, prepare=prepare) as segment:
        print(bytes(segment.buf) == bytes([1]) * 40_000, flush=True)
"""


def test_many_at_once(named: Kind) -> None:
    """In each turn one makes it; no one sees a byte that was not prepared."""
    turns = times(10, 300)
    known = str(named.known)
    with ExitStack() as stack:
        peers = [stack.enter_context(python(RACER, named.cls.__name__, known, str(turns))) for _ in range(3)]
        for turn in range(turns):
            for peer in peers:
                tell(peer, "go")
            assert [said(peer) for peer in peers] == ["True"] * 3
            name = hex(int(known, 0) + turn) if named.name == "sysv" else f"{known}{turn}"
            with named.cls.open(name) as segment:
                segment.unlink()


PREPARING = """
import sys, aipc
def prepare(view):
    view[0] = 5
    print("half", flush=True)
    sys.stdin.readline()
    view[1] = 5
aipc.SysVSharedMemory.open_or_create(sys.argv[1], 100, prepare=prepare).close()
"""


@pytest.mark.parametrize("how", ["open", "open_or_create", "attach"])
def test_waits_for_a_preparation(how: str, key: str) -> None:
    waiting = (
        "import sys, aipc\nfrom aipc.memory import creation\ncreation.PATIENCE = 60\nprint('here', flush=True)\n"
        + {
            "open": "segment = aipc.SysVSharedMemory.open(sys.argv[1])",
            "open_or_create": "segment = aipc.SysVSharedMemory.open_or_create(sys.argv[1], 100)",
            "attach": "segment = aipc.SysVSharedMemory.attach(int(sys.argv[2]))",
        }[how]
    )
    with python(PREPARING, key) as maker:
        assert said(maker) == "half"
        (found,) = [one for one in aipc.list_objects() if one.kind == "sysv-shm" and one.key == int(key, 16)]
        assert found.mode == 0o610
        with python(waiting + "\nprint(segment.buf[1], flush=True)\nsegment.close()", key, str(found.id)) as finder:
            assert said(finder) == "here"
            tell(maker, "go on")
            assert said(finder) == "5"
        aipc.remove_object(found)


def test_a_maker_that_finishes_and_ends_at_that_moment(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the look that found the segment in preparation. No real way hits the moment: a call is replaced."""
    with python(PREPARING, key) as maker:
        assert said(maker) == "half"

        def has_ended(process: Process) -> bool:
            tell(maker, "go on")
            assert maker.wait(30) == 0
            return really(process)

        really = sysv_memory.has_ended
        monkeypatch.setattr(sysv_memory, "has_ended", has_ended)
        with aipc.SysVSharedMemory.open_or_create(key, 100) as segment:
            monkeypatch.undo()
            assert segment.buf[:2] == b"\5\5"
            segment.unlink()


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["open", "open_or_create"])
async def test_waits_without_the_loop(how: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The maker is slow: the loop goes on, and a timeout ends the wait."""
    monkeypatch.setattr(creation, "PATIENCE", 60)  # a call that waits itself would stay
    call = partial(aipc.SysVSharedMemory.open_or_create, size=100) if how == "open_or_create" else aipc.SysVSharedMemory.open
    with python(PREPARING, key) as maker:
        assert said(maker) == "half"
        with pytest.raises(TimeoutError), anyio.fail_after(0.03):
            await aipc.wait_ready(call, key)
        async with anyio.create_task_group() as tasks:
            opened: list[aipc.SysVSharedMemory] = []

            async def open_it() -> None:
                opened.append(await aipc.wait_ready(call, key))

            tasks.start_soon(open_it)
            await anyio.wait_all_tasks_blocked()
            tell(maker, "go on")
        with opened[0] as segment:
            assert segment.buf[1] == 5
            segment.unlink()


def test_waits_for_a_moment_only(key: str) -> None:
    with python(PREPARING, key) as maker:
        assert said(maker) == "half"
        os.kill(maker.pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(aipc.WrongObject, match=f"{maker.pid} made it.*ipcrm -m"):
            aipc.SysVSharedMemory.open_or_create(key, 100)
        with pytest.raises(aipc.WrongObject, match=f"{maker.pid} made it.*ipcrm -m"):
            aipc.SysVSharedMemory.open(key)
        assert 0.2 <= time.monotonic() - begin < 5
    aipc.remove_object("sysv-shm", key)


def test_a_maker_that_was_killed(key: str) -> None:
    """The next one begins anew, whether or not the dead one was reaped."""
    with python(PREPARING, key) as maker:
        assert said(maker) == "half"
        os.kill(maker.pid, signal.SIGKILL)
        wait_ended(maker)
        with aipc.SysVSharedMemory.open_or_create(key, 100) as segment:
            assert segment.buf[0] == 0
            assert segment.stat().mode == 0o600
            segment.unlink()


def test_the_mode_of_a_preparation_is_taken(key: str) -> None:
    with pytest.raises(aipc.AddressError, match="0o610"):
        aipc.SysVSharedMemory.create(key, 100, mode=0o610)
    with pytest.raises(aipc.AddressError, match="private"):
        aipc.SysVSharedMemory.open_or_create(None, 100)


UNSIZED = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
print("no size yet", flush=True)
sys.stdin.readline()
os.ftruncate(fd, 100)
sys.stdin.readline()
"""


@pytest.mark.parametrize("cls", [aipc.SharedMemory, aipc.MappedFile])
def test_waits_for_a_size(cls: type[aipc.SharedMemory | aipc.MappedFile], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As between shm_open(3) and ftruncate(2) of a C program."""
    name = new_name() if cls is aipc.SharedMemory else str(place / "file")
    path = f"/dev/shm{name}" if cls is aipc.SharedMemory else name
    with python(UNSIZED, path) as maker:
        assert said(maker) == "no size yet"
        with monkeypatch.context() as patched:
            patched.setattr(creation, "PATIENCE", 0.05)
            with pytest.raises(aipc.WrongObject):
                cls.open_or_create(name, 100)
        monkeypatch.setattr(creation, "PATIENCE", 60)
        tell(maker, "go on")
        with cls.open_or_create(name, 100) as segment:
            assert segment.size == 100
            segment.unlink()


def test_what_c_made(key: str, c_peer: str) -> None:
    """shmget(2) with IPC_CREAT on both sides: each finds what the other one made."""
    run(c_peer, "sysv", "create", key, "777")
    with aipc.SysVSharedMemory.open_or_create(key, 777, prepare=lambda view: 1 // 0) as segment:
        assert bytes(segment.buf[:10]) == b"made in C\0"
        segment.unlink()


def test_a_link_to_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "PATIENCE", 0.05)
    (place / "link").symlink_to(place / "nothing")
    with pytest.raises(aipc.ObjectExists):
        aipc.MappedFile.open_or_create(place / "link", 100)
    with pytest.raises(aipc.ObjectMissing):
        aipc.MappedFile.open_or_create(place / "no" / "file", 100)
