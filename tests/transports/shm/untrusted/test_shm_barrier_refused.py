"""membarrier(2) that is refused while a ring is in use, as a filter of seccomp(2) can do: the peer is asked to ring each time."""

from __future__ import annotations

import errno
import mmap
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc._sys import membarrier
from aipc.abc import Channel
from aipc.testing.expect import settle

from ....conftest import LOOPS
from ....seccomp import judged
from .hostile import GOOD, PUBLISHED, REGISTERED, SLEEPS, THEIRS, Raw, memfd

ONCE, ALWAYS = 1, 2


async def sleep_twice(channel: Channel, raw: Raw, words: memoryview, forbidden: list[bool], flags: list[int]) -> None:
    """What a receiver asks its peer for while it sleeps, before and after membarrier(2) is forbidden."""
    for number in range(1, 3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive)
            await settle()
            flags.append(words[THEIRS + SLEEPS[0]])
            words[THEIRS + PUBLISHED] = 8 * number  # empty messages
            raw.socket.send(b"\0")
        forbidden.append(True)
    assert channel.statistics().messages_received == 2


async def meet(place: Path, forbidden: list[bool], flags: list[int]) -> None:
    with anyio.fail_after(20):
        async with aipc.listen(f"shm:{place}/ring") as listener:
            with (
                closing(Raw(place)) as raw,
                memfd(GOOD) as fd,
                closing(mmap.mmap(fd, GOOD)) as mapped,
                memoryview(mapped) as plain,
                plain.cast("Q") as words,
            ):
                words[THEIRS + REGISTERED] = 1
                words[THEIRS + SLEEPS[0]] = ALWAYS
                raw.offer([fd])
                async with await listener.accept() as channel:
                    await sleep_twice(channel, raw, words, forbidden, flags)


@pytest.mark.parametrize("loop", LOOPS)
def test_refused_from_then_on(loop: str, place: Path) -> None:
    forbidden: list[bool] = []
    flags: list[int] = []
    expected = [ONCE if membarrier.registered() else ALWAYS, ALWAYS]
    run = partial(backend.run, loop, meet, place, forbidden, flags)
    judged(("membarrier",), lambda *_: errno.EPERM if forbidden else 0, run)
    assert flags == expected
