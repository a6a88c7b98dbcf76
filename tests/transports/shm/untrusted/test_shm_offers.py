"""A client that offers memory that can't be trusted, says what it should not, or says nothing: errors, and nothing else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.exceptions import ProtocolError, WrongObject
from aipc.testing.expect import settle

from .hostile import GOOD, HELLO, SEALS, Raw, memfd


@contextmanager
def untrusted(kind: str) -> Iterator[list[int]]:
    """Descriptors that are no memory for a ring."""
    if kind == "none":
        yield []
    elif kind == "two":
        with memfd(GOOD) as fd:
            yield [fd, fd]
    elif kind == "two hundred":
        with memfd(GOOD) as fd:
            yield [fd] * 200
    elif kind == "a pipe":
        reading, writing = os.pipe()
        yield [reading]
        os.close(reading)
        os.close(writing)
    elif kind == "a file":
        with open(__file__, "rb") as file:
            yield [file.fileno()]
    elif kind == "not for writing":
        with memfd(GOOD) as fd, open(f"/proc/self/fd/{fd}", "rb") as file:
            yield [file.fileno()]
    else:
        sizes = {"empty": 0, "short": GOOD - 1, "odd": GOOD + 4096, "tiny": 4096, "long": GOOD * 2}
        seals = {
            "unsealed": 0,
            "shrinkable": fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
            "growable": fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
            "sealable": fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW,
            "sealed against writing": SEALS | fcntl.F_SEAL_WRITE,
        }
        with memfd(sizes.get(kind, GOOD), seals.get(kind, SEALS)) as fd:
            yield [fd]


UNTRUSTED = [
    *("none", "two", "two hundred", "a pipe", "a file", "not for writing", "empty", "short", "odd", "tiny", "long"),
    *("unsealed", "shrinkable", "growable", "sealable", "sealed against writing"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", UNTRUSTED)
async def test_offers_that_are_refused(kind: str, place: Path) -> None:
    """Each use of the channel says so, and nothing of the offer stays open."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, untrusted(kind) as fds:
            raw.offer(fds)
            async with await listener.accept() as channel:
                with anyio.fail_after(10):
                    for operation in (channel.receive, channel.receive, partial(channel.send, b"x"), channel.send_eof):
                        with pytest.raises((ProtocolError, WrongObject, aipc.AccessDenied)):
                            await operation()


@pytest.mark.anyio
async def test_huge_pages_are_refused(place: Path) -> None:
    """Memory of huge pages can't be relied on to be there when it is touched."""
    with memfd(2 << 20, flags=os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_CLOEXEC) as fd:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            with closing(Raw(place)) as raw:
                raw.offer([fd])
                async with await listener.accept() as channel:
                    with anyio.fail_after(10), pytest.raises(WrongObject, match="huge"):
                        await channel.receive()


@pytest.mark.anyio
@pytest.mark.parametrize("hello", [b"aipc", b"aipcshm2", b"GET / HT", b"\0" * 8, HELLO[:7]])
async def test_wrong_words(hello: bytes, place: Path) -> None:
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd:
            raw.offer([fd], hello)
            async with await listener.accept() as channel:
                with anyio.fail_after(10):
                    for _ in range(2):
                        with pytest.raises(ProtocolError):
                            await channel.receive()
                    raw.offer([fd])  # too late
                    with pytest.raises(ProtocolError):
                        await channel.receive()


@pytest.mark.anyio
async def test_silence(place: Path) -> None:
    """Who says nothing is waited for, by all who want something of it; its end is an error for each."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        raw = Raw(place)
        failed = []

        async def fails(operation: Callable[[], object]) -> None:
            with pytest.raises(ProtocolError):
                await operation()  # type: ignore[misc]
            failed.append(operation)

        async with await listener.accept() as channel, anyio.create_task_group() as tasks:
            with anyio.fail_after(10):
                with pytest.raises(anyio.WouldBlock):
                    channel.receive_nowait()
                with pytest.raises(anyio.WouldBlock):
                    channel.send_nowait(b"x")
                for operation in (channel.receive, channel.receive_many, partial(channel.send, b"x"), channel.send_eof):
                    tasks.start_soon(fails, operation)
                await settle()
                assert failed == []
                raw.close()
                while len(failed) < 4:
                    await settle()
