"""Paths and names whose bytes are no UTF-8: every mechanism takes them, in its URL, as its own argument, and in its errors."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
import sysv_ipc

import aipc

from ..subjects import new_name

pytestmark = pytest.mark.anyio

ODD = os.fsdecode(b"\xff\xe9")
Check = Callable[[str], Awaitable[None]]
"""Of a path in a directory of its own."""


def encoded(path: str) -> str:
    return quote(os.fsencode(path))


async def _lock(url: str) -> None:
    async with aipc.open_lock(url) as lock, lock:
        assert lock.locked()


async def _listener(url: str) -> None:
    async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
        await ours.send(b"found")
        assert await theirs.receive() == b"found"


async def _queue(url: str) -> None:
    async with aipc.open_channel(url) as ours, aipc.open_channel(url) as theirs:
        await ours.send(b"found")
        assert await theirs.receive() == b"found"


async def _datagrams(path: str) -> None:
    async with aipc.open_channel("unix+dgram:", bind=path) as ours, aipc.open_channel("unix+dgram:", bind=f"{path}2") as theirs:
        await theirs.send(b"ping", to=path)
        message = await ours.receive_message()
        assert (message.data, message.sender) == (b"ping", f"{path}2")
        await ours.send(b"pong", to=message.sender)
        assert await theirs.receive() == b"pong"
        async with aipc.open_channel(f"unix+dgram:{encoded(path)}?bind={encoded(path)}3") as third:
            await third.send(b"third")
            assert await ours.receive() == b"third"


async def _fifo(path: str) -> None:
    url = f"fifo:{encoded(path)}?create=1"
    async with aipc.open_channel(url, unlink=True) as receiver, aipc.open_channel(url, direction="send") as sender:
        await sender.send(b"found")
        assert await receiver.receive() == b"found"


async def _key_of_a_file(path: str) -> None:
    """The same key as C's ftok(3) makes of it, here by another name of the same file."""
    Path(path).touch()
    os.link(path, f"{os.path.dirname(path)}/plain")
    for project in (1, 66, 255):
        url = f"sysv-mq:{encoded(path)}?project={project}"
        async with aipc.open_channel(url, create=True, unlink=True) as channel:
            assert channel.extra(aipc.ChannelAttribute.key) == sysv_ipc.ftok(f"{os.path.dirname(path)}/plain", project, True)
    async with aipc.open_lock(f"sysv-sem:{encoded(path)}?project=7&create=1&unlink=1") as lock, lock:
        pass
    with aipc.SysVSharedMemory.create(path, 100, project=7, unlink=True):
        pass


async def _program(path: str) -> None:
    Path(path).write_text("#!/bin/sh\nexec cat\n")
    Path(path).chmod(0o700)
    async with aipc.open_channel(f"exec:{encoded(path)}") as channel:
        await channel.send(b"found")
        assert await channel.receive() == b"found"
    assert await _output(aipc.popen([path], "r+")) == await _output(aipc.popen([os.fsencode(path)], "r+")) == b"found"


async def _output(opening: aipc.Opening[aipc.ProcessChannel]) -> bytes:
    async with opening as channel:
        await channel.send(b"found")
        return await channel.receive()


async def _event(path: str) -> None:
    async with aipc.Event(path, unlink=True) as event, aipc.Event(Path(path), create=False) as same:
        event.set()
        await same.wait()


async def _memory(path: str) -> None:
    name = new_name() + ODD
    with (
        aipc.SharedMemory.create(name, 100, unlink=True),
        aipc.SharedMemory.open(name) as memory,
        aipc.MappedFile.create(path, 100),
        aipc.MappedFile.open(path) as file,
    ):
        assert memory.size == file.size == 100


CHECKS: dict[str, Check] = {
    "flock": lambda path: _lock(f"flock:{encoded(path)}"),
    "fcntl": lambda path: _lock(f"fcntl:{encoded(path)}"),
    "posix-sem": lambda path: _lock(f"posix-sem:{encoded(new_name() + ODD)}?create=1&unlink=1"),
    "posix-sem, robust": lambda path: _lock(f"posix-sem:{encoded(new_name() + ODD)}?create=1&unlink=1&robust=1"),
    "posix-mq": lambda path: _queue(f"posix-mq:{encoded(new_name() + ODD)}?create=1&unlink=1"),
    "unix": lambda path: _listener(f"unix:{encoded(path)}"),
    "unix, not encoded": lambda path: _listener(f"unix:{path}"),
    "unix, long": lambda path: _listener(f"unix:{encoded(path + 'x' * (110 - len(os.fsencode(path))))}"),
    "unix, abstract": lambda path: _listener(f"unix:@{os.getpid()}{encoded(ODD)}"),
    "unix+seqpacket": lambda path: _listener(f"unix+seqpacket:{encoded(path)}"),
    "shm": lambda path: _listener(f"shm:{encoded(path)}"),
    "unix+dgram": _datagrams,
    "fifo": _fifo,
    "ftok": _key_of_a_file,
    "exec": _program,
    "Event": _event,
    "memory": _memory,
}


@pytest.mark.parametrize("what", CHECKS)
async def test_works(what: str, place: Path) -> None:
    with anyio.fail_after(30):
        await CHECKS[what](f"{place}/{ODD}")


@pytest.mark.parametrize(
    "opening",
    [
        lambda path: aipc.open_channel(f"unix:{encoded(path)}"),
        lambda path: aipc.open_channel(f"unix+dgram:{encoded(path)}"),
        lambda path: aipc.open_channel(f"fifo:{encoded(path)}"),
        lambda path: aipc.open_channel(f"sysv-mq:{encoded(path)}?project=1"),
        lambda path: aipc.open_channel(f"posix-mq:/{encoded(ODD)}"),
        lambda path: aipc.open_channel(f"exec:{encoded(path)}"),
        lambda path: aipc.open_lock(f"posix-sem:/{encoded(ODD)}"),
        lambda path: aipc.open_lock(f"flock:{encoded(path)}?create=0"),
        lambda path: aipc.listen(f"unix:{encoded(path)}/below"),
    ],
    ids=["unix", "unix+dgram", "fifo", "sysv-mq", "posix-mq", "exec", "posix-sem", "flock", "listen"],
)
async def test_error(opening: Callable[[str], aipc.Opening[aipc.Channel]], place: Path) -> None:
    with anyio.fail_after(30), pytest.raises(aipc.ObjectMissing) as caught:
        await opening(f"{place}/{ODD}")
    assert encoded(ODD) in str(caught.value)
