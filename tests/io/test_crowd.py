"""More threads that want to run than processors: a wait parks instead of spinning, for a while."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from resource import RUSAGE_THREAD, getrusage
from time import perf_counter

import pytest

from aipc._sys.crowd import Crowd

PATIENCE = 20.0
SEVERAL = len(os.sched_getaffinity(0)) > 1
needs_two = pytest.mark.skipif(not SEVERAL, reason="there is one processor, where there is no crowd")


@contextmanager
def on_processors(count: int) -> Iterator[None]:
    """This process, and those that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that never wait, on the same processors."""
    pids = []
    try:
        for _ in range(count):
            pids.append(pid := os.fork())
            if pid == 0:
                while True:
                    pass
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@needs_two
def test_neighbours_are_noticed_until_they_go() -> None:
    crowd, end = Crowd(), perf_counter() + PATIENCE
    with on_processors(2):
        with neighbours(2):
            while not crowd.is_there():
                assert perf_counter() < end, "three threads share two processors, and nobody noticed"
            assert crowd.until > perf_counter()
        while crowd.is_there():
            assert perf_counter() < end, "the neighbours have gone, and no wait spins"
        assert crowd.until == 0


def test_on_one_processor_there_is_none() -> None:
    """The peer has to preempt who spins."""
    crowd, before = Crowd(), getrusage(RUSAGE_THREAD).ru_nivcsw
    with on_processors(1), neighbours(1):
        while getrusage(RUSAGE_THREAD).ru_nivcsw < before + 10:
            assert not crowd.is_there()


class Told(Crowd):
    """Is told how often it was preempted."""

    def tell(self, *looks: tuple[float, int]) -> list[bool]:
        """For each look, whether there is a crowd from then on."""
        seen = []
        for now, preempted in looks:
            if now >= self.until > 0:
                self.until, self._preempted = 0.0, -1
            self._look(now, preempted)
            seen.append(self.until > now)
        return seen


@needs_two
def test_a_few_preemptions_in_short_time() -> None:
    assert Told().tell((0.0, 100), (0.003, 101), (0.006, 102), (0.009, 103)) == [False, False, False, True]
    assert Told().tell((0.0, 100), (0.003, 103)) == [False, True]


def test_single_ones_mean_nothing() -> None:
    assert not any(Told().tell(*((number * 0.02, number) for number in range(100))))


def test_what_came_before_the_first_look_means_nothing() -> None:
    assert Told().tell((5.0, 1_000)) == [False]


@needs_two
def test_each_pause_is_as_long() -> None:
    crowd, now = Told(), 0.0
    for _ in range(3):
        assert crowd.tell((now, 0), (now + 1e-3, 3)) == [False, True]
        assert crowd.until - now - 1e-3 == pytest.approx(0.05)
        now = crowd.until
