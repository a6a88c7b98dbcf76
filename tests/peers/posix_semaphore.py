"""A process that takes a POSIX semaphore and gives it back, as fast as it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import python, said

_HAMMER = """
import posix_ipc, signal, sys
semaphore = posix_ipc.Semaphore(sys.argv[1])
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
print("begun", flush=True)
while not ends:
    try:
        semaphore.acquire(0)
    except posix_ipc.BusyError:
        continue
    semaphore.release()
"""


@contextmanager
def hammer(name: str) -> Iterator[None]:
    """It runs during the block, and holds nothing after it."""
    with python(_HAMMER, name) as running:
        assert said(running) == "begun"
        yield
        running.terminate()
        assert running.wait(10) == 0
