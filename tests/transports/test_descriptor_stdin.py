"""Standard input of every sort through `fd:0`: a terminal, a pipe, a regular file, /dev/null; each to its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc

pytestmark = pytest.mark.anyio
TEXT = b"one\n\ntwo\nthree\n"
LINES = [b"one", b"", b"two", b"three"]


@contextmanager
def standard_input(kind: str) -> Iterator[int]:
    """A descriptor that gives TEXT, then the end; whoever opens it closes it."""
    if kind == "terminal":
        ours, theirs = os.openpty()
        os.write(ours, TEXT + b"\x04")
    elif kind == "pipe":
        theirs, ours = os.pipe()
        os.write(ours, TEXT)
        os.close(ours)
        ours = -1
    else:
        ours = -1
        with tempfile.TemporaryFile() as file:
            file.write(TEXT)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            theirs = os.dup(file.fileno())
    try:
        yield theirs
    finally:
        if ours >= 0:
            os.close(ours)


@pytest.mark.parametrize("kind", ["terminal", "pipe", "file"])
async def test_lines(kind: str) -> None:
    with standard_input(kind) as fd, anyio.fail_after(10):
        async with aipc.open_channel(f"fd:{fd}", framing="lines") as stdin:
            assert await stdin.peek() == b"one"
            assert [line async for line in stdin] == LINES
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await stdin.receive()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


async def test_a_long_file(place: Path) -> None:
    """Other tasks go on meanwhile, though a file never makes its reader wait."""
    lines = [b"%d" % number for number in range(200_000)]
    (place / "file").write_bytes(b"".join(line + b"\n" for line in lines))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    fd = os.open(place / "file", os.O_RDONLY)
    async with anyio.create_task_group() as tasks, aipc.open_channel(f"fd:{fd}", framing="lines") as stdin:
        tasks.start_soon(count)
        assert [line async for line in stdin] == lines
        tasks.cancel_scope.cancel()
    assert turns > 100


async def test_a_file_both_ways(place: Path) -> None:
    """One to read from and one to write to, as of `program < in > out`; one descriptor, as of `program 3<> file`."""
    (place / "in").write_bytes(b"\0\0\0\3one\0\0\0\3two")
    reading, writing = os.open(place / "in", os.O_RDONLY), os.open(place / "out", os.O_RDWR | os.O_CREAT)
    with anyio.fail_after(10):
        async with aipc.open_channel(f"fd:{reading},{writing}") as channel:
            async for message in channel:
                await channel.send(message.upper())
        assert (place / "out").read_bytes() == b"\0\0\0\3ONE\0\0\0\3TWO"
        fd = os.open(place / "out", os.O_RDWR)
        async with aipc.open_channel(f"fd:{fd}") as channel:
            assert await channel.receive_many() == [b"ONE", b"TWO"]
            await channel.send_many([b"three", b"four"])
        assert (place / "out").read_bytes().endswith(b"\0\0\0\5three\0\0\0\4four")


async def test_what_was_read_before_stays_read(place: Path) -> None:
    """The position is the descriptor's, which a shell shares with each command."""
    (place / "file").write_bytes(TEXT)
    fd = os.open(place / "file", os.O_RDONLY)
    assert os.read(fd, 4) == b"one\n"
    async with aipc.open_channel(f"fd:{fd}", framing="lines") as stdin:
        assert [line async for line in stdin] == LINES[1:]


async def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    async with aipc.open_channel(f"fd:{fd}") as channel:
        with pytest.raises(aipc.NoSpace):
            await channel.send(b"x")


async def test_nothing() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    async with aipc.open_channel(f"fd:{fd}", framing="lines") as stdin:
        assert [line async for line in stdin] == []
