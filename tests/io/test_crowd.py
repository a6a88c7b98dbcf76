"""More threads that want to run than processors: a wait parks instead of spinning, for a while."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import pytest

from aipc._sys.crowd import Crowd

PATIENCE = 20.0


@contextmanager
def on_one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that never waits, on the same processors."""
    pid = os.fork()
    if pid == 0:
        while True:
            pass
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_neighbour_is_noticed() -> None:
    crowd, end = Crowd(), perf_counter() + PATIENCE
    with on_one_processor(), neighbour():
        while not crowd.is_there():
            assert perf_counter() < end, "two threads share a processor, and nobody noticed"
        assert crowd.until > perf_counter()


def test_the_pause_ends() -> None:
    crowd, end = Crowd(), perf_counter() + PATIENCE
    with on_one_processor():
        with neighbour():
            while not crowd.is_there():
                assert perf_counter() < end
        while crowd.is_there():
            assert perf_counter() < end, "the neighbour has gone, and no wait spins"
        assert crowd.until == 0


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


def test_a_few_preemptions_in_short_time() -> None:
    assert Told().tell((0.0, 100), (0.003, 101), (0.006, 102), (0.009, 103)) == [False, False, False, True]
    assert Told().tell((0.0, 100), (0.003, 103)) == [False, True]


def test_single_ones_mean_nothing() -> None:
    assert not any(Told().tell(*((number * 0.02, number) for number in range(100))))


def test_what_came_before_the_first_look_means_nothing() -> None:
    assert Told().tell((5.0, 1_000)) == [False]


def test_each_pause_is_as_long() -> None:
    crowd, now = Told(), 0.0
    for _ in range(3):
        assert crowd.tell((now, 0), (now + 1e-3, 3)) == [False, True]
        assert crowd.until - now - 1e-3 == pytest.approx(0.05)
        now = crowd.until
