"""Forked children that each run a loop of their own, to be killed at any moment."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio

from aipc._sys.sysv import semaphore as sysv

from ..conftest import LOOPS

Work = Callable[[str, Callable[[], None]], Awaitable[None]]


class Child:
    """Runs `work(key, tell)` on a loop; each `tell()` is a byte that `told` counts."""

    def __init__(self, loop: str, work: Work, key: str) -> None:
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                signal.alarm(120)
                os.set_blocking(writing, False)
                run(loop, work, key, lambda: tell(writing))
                status = 0
            finally:
                os._exit(status)
        os.close(writing)

    def wait_told(self, times: int = 1) -> None:
        """Until it has told so many times more; AssertionError after a minute."""
        deadline = time.monotonic() + 60
        while times > 0:
            assert select.select([self.reading], [], [], max(0, deadline - time.monotonic()))[0], "no progress for a minute"
            told = len(os.read(self.reading, times))
            assert told, "the child ended"
            times -= told

    def forget_told(self) -> None:
        while select.select([self.reading], [], [], 0)[0]:
            os.read(self.reading, 65_536)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.reading)
            self.pid = 0


def tell(writing: int) -> None:
    with suppress(BlockingIOError):  # nobody counts, but it is not empty
        os.write(writing, b"1")


def run(loop: str, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    backend, options = LOOPS[loop]
    return anyio.run(work, *arguments, backend=backend, backend_options=options)


@contextmanager
def child(loop: str, work: Work, key: str) -> Iterator[Child]:
    one = Child(loop, work, key)
    try:
        yield one
    finally:
        one.kill()


def kill_at_random(victim: Child) -> None:
    """Once it works, at some moment in the next few milliseconds."""
    victim.wait_told()
    time.sleep(random.uniform(0, 0.004))
    victim.kill()


def values(key: str) -> list[int]:
    """What the set has, read without aipc's primitives."""
    semaphores = sysv.SemaphoreSet(int(key, 16), 0, 0)
    return semaphores.values(semaphores.count())
