"""A path with a project is ftok(3)'s key, for every kind of System V object; a relative path, too, as in the books' programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

import aipc

from ..cli.runs import run as command


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the file that the books make keys of."""
    monkeypatch.chdir(place)
    (place / "kirk.c").touch()
    (place / "src").mkdir()
    (place / "src" / "spock.c").touch()
    return place


def ftok(path: str, project: int = 66) -> int:
    return int(sysv_ipc.ftok(path, project, True)) & 0xFFFFFFFF


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["kirk.c", "./kirk.c", "src/spock.c", "src/../kirk.c"])
async def test_relative_paths(path: str, here: Path) -> None:
    url = f"{path}?project=66&create=1&unlink=1"
    with aipc.SysVSharedMemory.create(path, 100, project=66, unlink=True) as segment:
        assert segment.status().key == ftok(path)
    async with (
        aipc.open_channel(f"sysv-mq:{url}") as queue,
        aipc.open_lock(f"sysv-sem:{path}?project=67&exclusive=1&unlink=1"),
        aipc.SysVSemaphoreSet(url),
        aipc.Event(f"{path}?project=68", unlink=True),
    ):
        assert queue.extra(aipc.ChannelAttribute.key) & 0xFFFFFFFF == ftok(path)
        semaphores = {one.key for one in aipc.list_objects() if one.kind == "sysv-sem"}
        assert semaphores >= {ftok(path), ftok(path, 67), ftok(path, 68)}


@pytest.mark.parametrize("by", ["keyword", "query", "command line"])
@pytest.mark.parametrize("path", ["kirk.c", "absolute"])
def test_removal(by: str, path: str, here: Path) -> None:
    path = str(here / "kirk.c") if path == "absolute" else path
    queue = sysv_ipc.MessageQueue(ftok(path), sysv_ipc.IPC_CREX)

    def remove() -> bool:
        if by == "command line":
            return command("remove", "--yes", f"sysv-mq:{path}?project=66")[0] == 0
        aipc.remove_object("sysv-mq", *((path,) if by == "keyword" else (f"{path}?project=66",)), **PROJECTS[by])
        return True

    assert remove()
    assert queue.id not in {one.id for one in aipc.list_objects() if one.kind == "sysv-mq"}
    if by == "command line":
        assert not remove()
    else:
        with pytest.raises(aipc.ObjectMissing, match=f"{ftok(path):#x}"):
            remove()


PROJECTS: dict[str, dict[str, int]] = {"keyword": {"project": 66}, "query": {}}


@pytest.mark.anyio
async def test_no_such_file(here: Path) -> None:
    """The error says where it was looked for."""
    with pytest.raises(aipc.ObjectMissing, match=f"{here}/spock.c"):
        await aipc.open_channel("sysv-mq:spock.c?project=66")
    with pytest.raises(aipc.ObjectMissing, match=f"{here}/spock.c"):
        aipc.SysVSharedMemory.open("spock.c", project=66)
    with pytest.raises(aipc.ObjectMissing, match=f"{here}/spock.c"):
        aipc.remove_object("sysv-sem", "spock.c", project=66)


OPENERS: dict[str, Callable[[str], object]] = {
    "queue": lambda rest: aipc.open_channel(f"sysv-mq:{rest}"),
    "typed queue": aipc.open_sysv_queue,
    "semaphore": lambda rest: aipc.open_lock(f"sysv-sem:{rest}"),
    "typed semaphore": lambda rest: aipc.open_semaphore(f"sysv-sem:{rest}"),
    "set": aipc.SysVSemaphoreSet,
    "event": aipc.Event,
    "removal": lambda rest: aipc.remove_object("sysv-shm", rest),
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("", "is no key"),
        ("0", "must be within 32 bits and not 0"),
        ("0x100000000", "must be within 32 bits"),
        ("kirk.c", "kirk.c[?]project=66"),
        ("kirk.c?project=0", "from 1 to 255"),
        ("kirk.c?project=256", "from 1 to 255"),
        ("kirk.c?project=B", "from 1 to 255"),
        ("1234?project=66", "would be ./1234"),
        ("private?project=66", "would be ./private"),
        ("?project=66", "project goes with a path"),
        ("//1234", "without //"),
    ],
)
def test_malformed_keys_raise_from_the_call(opener: Callable[[str], object], rest: str, why: str, here: Path) -> None:
    with pytest.raises(aipc.AddressError, match=why):
        opener(rest)


def test_projects_of_what_has_no_key(here: Path) -> None:
    with pytest.raises(aipc.AddressError, match="System V"):
        aipc.remove_object("fifo", "kirk.c", project=66)
