"""Locks on files, mapped files, POSIX shared memory."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

import aipc

from ..peers import said, tell
from .conftest import Start, output

Pair = tuple[Start, Start]


def test_shared_file(pair: Pair) -> None:
    produce, consume = pair
    assert output(produce("shared_file", "producer")) == "producer: wrote 63 bytes\n"
    assert output(consume("shared_file", "consumer")).startswith("Once upon a midnight dreary,\nwhile")


def test_lockdemo(pair: Pair, place: Path) -> None:
    (place / "lockdemo.c").touch()
    one, other = pair
    with one("lockdemo", "lockdemo") as first, other("lockdemo", "lockdemo") as second:
        tell(first, "")
        assert [said(first) for _ in range(4)][2] == "got lock"
        tell(second, "")
        assert [said(second) for _ in range(2)][1] == "Trying to get lock..."
        tell(first, "")
        assert said(first) == "Unlocked."
        assert said(second) == "got lock"
        assert said(second) == "Press <RETURN> to release lock:"
        tell(second, "")
        assert said(second) == "Unlocked."


@pytest.mark.anyio
async def test_a_starving_writer(either: Start, place: Path) -> None:
    """Readers that overlap keep it out: a lock that fits is given at once, whoever has been waiting."""
    (place / "lockdemo.c").touch()
    url = f"fcntl:{place}/lockdemo.c?shared=1"
    async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
        with either("lockdemo", "lockdemo") as writer:
            await one.acquire()
            tell(writer, "")
            assert [said(writer) for _ in range(2)][1] == "Trying to get lock..."
            for held, free in ((one, other), (other, one), (one, other)):
                await free.acquire()
                held.release()
            assert select.select([writer.stdout], [], [], 0)[0] == []
            other.release()
            assert said(writer) == "got lock"
            tell(writer, "")
            assert writer.wait(30) == 0


def test_a_consumer_finds_the_holder(pair: Pair, place: Path) -> None:
    """F_GETLK names the process that has the lock on the file."""
    (place / "lockdemo.c").touch()
    (place / "data.dat").hardlink_to(place / "lockdemo.c")
    lock, consume = pair
    with lock("lockdemo", "lockdemo") as first:
        tell(first, "")
        assert [said(first) for _ in range(4)][2] == "got lock"
        with consume("shared_file", "consumer") as consumer:
            assert said(consumer) == f"consumer: process {first.pid} is writing, so this waits"
            tell(first, "")
            assert consumer.wait(30) == 0


def test_memwriter_and_memreader(pair: Pair) -> None:
    write, read = pair
    with write("memwriter_memreader", "memwriter") as writer:
        assert said(writer) == "memwriter: 29 bytes are there to be read"
        assert output(read("memwriter_memreader", "memreader")) == "memreader: Not with a bang but a whimper\n"
        assert writer.wait(30) == 0


def test_mmap_number(pair: Pair) -> None:
    write, read = pair
    output(write("mmap_number", "write", "integer-file", "21"))
    assert output(read("mmap_number", "read", "integer-file")) == "value: 21\n"
    assert output(write("mmap_number", "read", "integer-file")) == "value: 42\n"


def test_mmapdemo(either: Start, place: Path) -> None:
    (place / "mmapdemo.c").write_text("/* a program */\n")
    assert output(either("mmapdemo", "mmapdemo", "3")) == "byte at offset 3 is 'a'\n"
    assert output(either("mmapdemo", "mmapdemo", "16"), status=1) == ""
