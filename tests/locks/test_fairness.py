"""Who releases a lock and takes it again at once leaves others a turn, whatever the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ..peers import python, said
from ..subjects import LOCKS, times
from .c_programs import giving_back, taking

pytestmark = pytest.mark.anyio

TURNS = times(5, 20)
GREEDY = """
import anyio, sys, aipc
from aipc._io.loop import backend
async def main():
    async with aipc.open_lock(sys.argv[1]) as lock:
        print("begins", flush=True)
        while True:
            async with lock:
                await anyio.sleep(0.002)
backend.run(sys.argv[2], main)
"""


@pytest.fixture
def _one_processor() -> Iterator[None]:
    """This process and those that it starts share one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("mechanism", LOCKS)
async def test_nobody_starves(mechanism: str, loop: str, place: Path) -> None:
    """Several times, against a process that works under the lock and hardly lets go of it."""
    subject = LOCKS[mechanism](place)
    with anyio.fail_after(40):
        async with subject.open_two() as (lock, _):
            with python(GREEDY, subject.url, loop) as greedy:
                assert said(greedy) == "begins"
                for _ in range(TURNS):
                    async with lock:
                        await anyio.sleep(0.002)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("mechanism", ["flock", "fcntl", "fcntl-process", "sysv-sem", "posix-sem"])
@pytest.mark.usefixtures("_one_processor")
async def test_no_c_program_starves(mechanism: str, loop: str, place: Path, c_peers: dict[str, str]) -> None:
    """Nor one that sleeps in flock(2), fcntl(2), semop(2) or sem_wait(3) and is slow to wake: others run on (SCHED_BATCH, sched(7))."""
    subject = LOCKS[mechanism](place)
    with anyio.fail_after(40):
        async with subject.open_two():
            with python(GREEDY, subject.url, loop) as greedy:
                assert said(greedy) == "begins"
                for _ in range(TURNS):
                    await anyio.run_process(["chrt", "--batch", "0", *taking(subject.url, c_peers)])
                    if mechanism == "posix-sem":
                        await anyio.run_process(giving_back(subject.url, c_peers))
