"""Classic locks (`owner=process`) among the threads of one process, and in a child that forks while another thread takes one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc.testing.expect import in_child

from ...subjects import times

ROUNDS = times(2_000, 20_000)


@pytest.fixture
def url(place: Path) -> str:
    return f"fcntl:{place}/lock?owner=process"


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    """The interpreter switches threads at nearly every chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Taker:
    """A thread whose loop takes and releases the lock over and over; `inside` has all who hold it."""

    def __init__(self, loop: str, url: str, inside: set[object], stop: Event) -> None:
        self.url, self.inside, self.stop = url, inside, stop
        self.rounds = self.together = 0
        self.error: BaseException | None = None
        self.thread = Thread(target=self._run, args=(loop,))

    def _run(self, loop: str) -> None:
        try:
            backend.run(loop, self._take_and_release)
        except BaseException as error:  # the test raises it
            self.error = error

    async def _take_and_release(self) -> None:
        async with aipc.open_lock(self.url) as lock:
            while self.rounds < ROUNDS and not self.stop.is_set():
                try:
                    lock.acquire_nowait()
                except anyio.WouldBlock:
                    await anyio.lowlevel.checkpoint()
                    continue
                self.inside.add(self)
                self.together += len(self.inside) > 1
                self.inside.discard(self)
                lock.release()
                self.rounds += 1


@contextmanager
def taking(loop: str, *urls: str) -> Iterator[list[Taker]]:
    """A thread for each URL; those that still run are stopped with the block, and what went wrong in one is raised."""
    inside: set[object] = set()
    stop = Event()
    takers = [Taker(loop, url, inside, stop) for url in urls]
    for taker in takers:
        taker.thread.start()
    try:
        yield takers
    finally:
        stop.set()
        for taker in takers:
            taker.thread.join()
    for taker in takers:
        if taker.error is not None:
            raise taker.error


@pytest.mark.usefixtures("_quick_switches")
@pytest.mark.parametrize("loop", backend.NAMES)
def test_threads_exclude_each_other(loop: str, url: str) -> None:
    """The kernel would let both in: a classic lock is the whole process's."""
    with taking(loop, url, url) as takers:
        for taker in takers:
            taker.thread.join()
    assert [taker.together for taker in takers] == [0, 0]
    assert [taker.rounds for taker in takers] == [ROUNDS, ROUNDS]


@pytest.mark.costly
@pytest.mark.usefixtures("_quick_switches")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12; the child does little
def test_a_child_does_not_wait_for_a_thread_that_it_has_not(url: str) -> None:
    """It forks at any moment, also while another thread changes the table of claims."""

    def use() -> None:
        signal.alarm(10)

        async def take_it() -> None:
            async with aipc.open_lock(f"{url}&start=9&length=1") as lock:
                await lock.acquire()

        anyio.run(take_it)

    with taking("asyncio", f"{url}&length=1") as takers:
        while not takers[0].rounds:
            assert takers[0].error is None
        for _ in range(30):
            in_child(use)


def open_here(path: Path) -> int:
    """How many descriptors of the file this process has."""
    return sum(os.path.samefile(fd, path) for fd in Path("/proc/self/fd").iterdir() if fd.exists())


def test_a_child_closes_what_waits_to_be_closed(url: str, place: Path) -> None:
    """Descriptors that stay open for the parent's lock are of no use to a child, which has no lock."""

    async def main() -> None:
        async with aipc.open_lock(url) as lock, lock:
            async with aipc.open_lock(f"{url}&start=9&length=1"):
                pass
            assert open_here(place / "lock") == 2

            def use() -> None:
                assert open_here(place / "lock") == 1

            in_child(use)

    anyio.run(main)
