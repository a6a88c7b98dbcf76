"""What is listed is what ipcs(1) shows; what is removed was asked for, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import posix_ipc
import pytest
import sysv_ipc

import aipc
from aipc import IpcObject

from ..cli.runs import run as command
from ..peers import isolated, python, run, said
from ..subjects import new_key, new_name


@contextmanager
def system_v() -> Iterator[dict[str, int]]:
    """One of each, with two messages, three semaphores and two attachments."""
    key = int(new_key(), 0)
    queue = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o640)
    try:
        queue.send(b"hello")
        queue.send(b"you")
        with (
            aipc.SysVSharedMemory.create(key, 1001, mode=0o604, unlink=True) as segment,
            aipc.SysVSharedMemory.open(key),
        ):
            semaphore = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, mode=0o600)
            try:
                yield {"key": key, "sysv-mq": queue.id, "sysv-shm": segment.id, "sysv-sem": semaphore.id}
            finally:
                semaphore.remove()
    finally:
        queue.remove()


def listed(kind: str) -> list[IpcObject]:
    return [found for found in aipc.list_objects() if found.kind == kind]


def ipcs(option: str) -> list[list[str]]:
    """The lines of `ipcs`, without its titles."""
    return [line.split() for line in run("ipcs", option).splitlines() if line.startswith("0x")]


def test_agrees_with_ipcs() -> None:
    names = {os.getuid(): run("id", "-un").strip()}
    with system_v() as made:
        for kind, option in {"sysv-mq": "-q", "sysv-sem": "-s", "sysv-shm": "-m"}.items():
            lines = ipcs(option)
            found = listed(kind)
            assert sorted(int(line[1]) for line in lines) == sorted(found.id for found in found if found.id is not None)
            assert made[kind] in {found.id for found in found}
            for line in lines:
                (same,) = [one for one in found if one.id == int(line[1])]
                assert (int(line[0], 16), int(line[3], 8)) == (same.key, same.mode)
                assert line[2] == names.get(same.uid, line[2])
                numbers = {"sysv-mq": (same.size, same.items), "sysv-sem": (same.items,), "sysv-shm": (same.size, same.users)}[
                    kind
                ]
                assert tuple(int(number) for number in line[4 : 4 + len(numbers)]) == numbers


def test_what_is_told() -> None:
    with system_v() as made:
        key, me = made["key"], os.getpid()
        objects = {(one.kind, one.key): one for one in aipc.list_objects() if one.key == key}
        uid = os.getuid()
        assert objects["sysv-mq", key] == ("sysv-mq", hex(key), made["sysv-mq"], key, uid, 0o640, 8, 2, None, (me,), False)
        assert objects["sysv-sem", key] == ("sysv-sem", hex(key), made["sysv-sem"], key, uid, 0o600, None, 1, None, (), False)
        assert objects["sysv-shm", key] == (
            "sysv-shm",
            hex(key),
            made["sysv-shm"],
            key,
            uid,
            0o604,
            1001,
            None,
            2,
            (me, me),
            False,
        )


def test_private_objects_and_negative_keys() -> None:
    with aipc.SysVSharedMemory.create(None, 10, unlink=True) as one, aipc.SysVSharedMemory.create(-5, 10, unlink=True) as other:
        found = {found.id: found for found in listed("sysv-shm")}
        assert (found[one.id].name, found[one.id].key) == ("private", 0)
        assert (found[other.id].name, found[other.id].key) == ("0xfffffffb", 0xFFFFFFFB)
        with aipc.SysVSharedMemory.open(found[other.id].name) as same:
            assert same.id == other.id


def test_removed_but_in_use(key: str) -> None:
    """What ipcs(1) marks as dest: it is listed until its last user lets go, and its key is free."""
    with aipc.SysVSharedMemory.create(key, 1001) as segment, aipc.SysVSharedMemory.open(key) as other:
        (found,) = [one for one in listed("sysv-shm") if one.id == segment.id]
        assert not found.removed
        segment.unlink()
        (found,) = [one for one in listed("sysv-shm") if one.id == segment.id]
        assert (found.removed, found.name, found.users, found.size) == (True, "private", 2, 1001)
        assert "dest" in next(line for line in run("ipcs", "-m").splitlines() if str(segment.id) in line.split())
        assert "2 attached, dest" in command("list")[1]
        segment.close()
        with aipc.SysVSharedMemory.create(key, 50, unlink=True) as newer:
            assert {one.id: one.removed for one in listed("sysv-shm")}.items() >= {other.id: True, newer.id: False}.items()
    assert other.id not in {one.id for one in listed("sysv-shm")}


@pytest.mark.parametrize("how", ["object", "number", "key"])
def test_remove_system_v(how: str) -> None:
    key = new_key()
    makers = {
        "sysv-mq": lambda: sysv_ipc.MessageQueue(int(key, 0), sysv_ipc.IPC_CREX).id,
        "sysv-sem": lambda: sysv_ipc.Semaphore(int(key, 0), sysv_ipc.IPC_CREX).id,
        "sysv-shm": lambda: run("ipcmk", "-M", "100").split()[-1],
    }
    for kind, make in makers.items():
        identifier = int(make())
        (found,) = [one for one in listed(kind) if one.id == identifier]
        if how == "object":
            aipc.remove_object(found)
        elif how == "number":
            aipc.remove_object(kind, identifier)
        else:
            aipc.remove_object(kind, found.name)
        assert identifier not in {one.id for one in listed(kind)}
        with pytest.raises(aipc.ObjectMissing):
            aipc.remove_object(found)


def test_posix_objects() -> None:
    name = new_name()
    with aipc.SharedMemory.create(name, 5001, mode=0o640, unlink=True):
        semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX)
        try:
            objects = [one for one in aipc.list_objects() if one.name == name]
            assert [one.kind for one in objects] == ["posix-sem", "posix-shm"] or [one.kind for one in objects] == [
                "posix-shm",
                "posix-sem",
            ]
            by_kind = {one.kind: one for one in objects}
            segment = by_kind["posix-shm"]
            assert (segment.size, segment.mode, segment.uid, segment.id) == (5001, 0o640, os.getuid(), None)
            aipc.remove_object(by_kind["posix-sem"])
            assert [one.kind for one in aipc.list_objects() if one.name == name] == ["posix-shm"]
            with pytest.raises(aipc.ObjectMissing):
                aipc.remove_object("posix-sem", name)
        finally:
            semaphore.close()
        aipc.remove_object(segment)
        with pytest.raises(aipc.ObjectMissing):
            aipc.SharedMemory.open(name)


def test_posix_queues() -> None:
    """In a mount namespace of its own, where /dev/mqueue is mounted."""
    code = """
import os, subprocess

subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
os.makedirs("/dev/mqueue")
subprocess.run(["mount", "-t", "mqueue", "none", "/dev/mqueue"], check=True)
import aipc, posix_ipc
queue = posix_ipc.MessageQueue("/jobs", posix_ipc.O_CREX, mode=0o600, max_messages=5, max_message_size=100)
queue.send(b"hello")
(found,) = [one for one in aipc.list_objects() if one.kind == "posix-mq"]
print(found.name, oct(found.mode), found.size)
aipc.remove_object(found)
print([one for one in aipc.list_objects() if one.kind == "posix-mq"])
try:
    aipc.remove_object(found)
except aipc.ObjectMissing:
    print("missing")
"""
    out = isolated(code)
    assert out.splitlines() == ["/jobs 0o600 5", "[]", "missing"]


def test_fifos_and_sockets(place: Path) -> None:
    os.mkfifo(place / "fifo", 0o600)
    (place / "file").touch()
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as stale:
        live.bind(str(place / "live"))
        live.listen()
        stale.bind(str(place / "stale"))
        stale.close()
        paths = {one.name: one for one in aipc.list_objects(place)}
        here = {os.path.basename(name): one for name, one in paths.items() if name.startswith(f"{place}/")}
        assert {name: (one.kind, one.users) for name, one in here.items()} == {
            "fifo": ("fifo", None),
            "live": ("unix", 1),
            "stale": ("unix", 0),
        }
        assert str(place / "live") in {one.name for one in listed("unix")}
        assert str(place / "stale") not in {one.name for one in aipc.list_objects()}
        with pytest.raises(aipc.ObjectExists, match="live process"):
            aipc.remove_object(here["live"])
        assert (place / "live").exists()
        for name in ("fifo", "stale"):
            aipc.remove_object(here[name])
            with pytest.raises(aipc.ObjectMissing):
                aipc.remove_object(here[name])
        aipc.remove_object(here["live"], force=True)
        assert os.listdir(place) == ["file"]


def test_what_is_something_else_is_left_alone(place: Path) -> None:
    (place / "file").write_text("keep")
    (place / "link").symlink_to(place / "file")
    (Path("/dev/shm") / "sem.directory").mkdir()
    try:
        for kind, name in [
            ("fifo", str(place / "file")),
            ("unix", str(place / "file")),
            ("unix", str(place / "link")),
            ("fifo", str(place)),
            ("posix-sem", "/directory"),
        ]:
            with pytest.raises(aipc.WrongObject, match="left alone"):
                aipc.remove_object(kind, name)
    finally:
        (Path("/dev/shm") / "sem.directory").rmdir()
    assert (place / "file").read_text() == "keep"


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        ("queue", 1),
        ("sysv-mq", None),
        ("sysv-mq", -1),
        ("sysv-mq", 1 << 40),
        ("sysv-mq", "private"),
        ("sysv-mq", "jobs"),
        ("posix-shm", "/a/b"),
        ("posix-shm", ".."),
        ("posix-shm", ""),
        ("posix-mq", "/"),
        ("posix-shm", 3),
        ("unix", None),
    ],
)
def test_what_cannot_be_meant(kind: str, identifier: int | str | None) -> None:
    with pytest.raises(aipc.AddressError):
        aipc.remove_object(kind, identifier)


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        ("sysv-mq", (1 << 31) - 1),
        ("sysv-sem", "0x71234567"),
        ("sysv-shm", (1 << 31) - 1),
        ("posix-shm", "/no-such-table"),
        ("posix-sem", "no-such-semaphore"),
        ("posix-mq", "/no-such-queue"),
        ("fifo", "/no/such/fifo"),
        ("unix", "/no/such/socket"),
    ],
)
def test_missing(kind: str, identifier: int | str) -> None:
    with pytest.raises(aipc.ObjectMissing, match=str(identifier)):
        aipc.remove_object(kind, identifier)


def test_missing_directory(place: Path) -> None:
    with pytest.raises(aipc.ObjectMissing):
        aipc.list_objects(place / "none")


def test_not_yours(key: str) -> None:
    with aipc.SysVSharedMemory.create(key, 10, mode=0o666, unlink=True) as segment:
        code = f"""
import os, aipc
aipc.remove_object, aipc.AccessDenied
if os.getuid() == 0:
    os.setuid(65534)
    try:
        aipc.remove_object("sysv-shm", {segment.id})
    except aipc.AccessDenied as error:
        print(error)
else:
    print("owner")
"""
        with python(code) as other:
            assert "owner" in said(other)
        assert segment.status().attached == 1


def test_a_socket_with_a_long_path(place: Path) -> None:
    deep = place / ("d" * 100)
    deep.mkdir()
    fd = os.open(deep, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"/proc/self/fd/{fd}/socket")
            assert stat.S_ISSOCK((deep / "socket").lstat().st_mode)
            with pytest.raises(aipc.ObjectExists):
                aipc.remove_object("unix", str(deep / "socket"))
        aipc.remove_object("unix", str(deep / "socket"))
    finally:
        os.close(fd)


def test_command_line(place: Path, key: str) -> None:
    os.mkfifo(place / "fifo")
    segment = aipc.SysVSharedMemory.create(key, 1001)
    segment.close()
    found = json.loads(command("list", "--json", str(place))[1])
    assert {"fifo", "sysv-shm"} <= {one["kind"] for one in found}
    assert key in command("list")[1]
    for arguments in (("sysv-shm", str(segment.id)), ("fifo", str(place / "fifo"))):
        assert command("remove", *arguments)[0] == 0
        status, printed = command("remove", *arguments)
        assert status == 3
        assert "Traceback" not in printed
    assert os.listdir(place) == []
    with pytest.raises(aipc.ObjectMissing):
        aipc.SysVSharedMemory.open(key)
    assert command("list", str(place / "none"))[0] == 3


def test_inspect(place: Path, key: str) -> None:
    async def look() -> None:
        name = f"posix-sem:/aipc-inspect-{os.getpid()}?robust=1"  # only then the holder is recorded
        async with (
            aipc.open_lock(name, create=True, unlink=True) as lock,
            aipc.open_lock(f"sysv-sem:{key}", create=True, unlink=True),
        ):
            assert aipc.inspect(name).state == {"value": 1, "sleepers": 0}
            async with lock:
                assert [process.pid for process in aipc.inspect(name).holders] == [os.getpid()]
            assert aipc.inspect(f"sysv-sem:{key}").state["value"] == 1
        async with aipc.listen(f"unix:{place}/socket"):
            assert [process.pid for process in aipc.inspect(f"unix:{place}/socket").holders] == [os.getpid()]

    anyio.run(look)
    for url in (f"unix:{place}/socket", f"flock:{place}/none", f"sysv-sem:{key}", "posix-sem:/aipc-none"):
        with pytest.raises(aipc.ObjectMissing):
            aipc.inspect(url)
    with pytest.raises(aipc.UnsupportedOperation):
        aipc.inspect("exec:cat")
