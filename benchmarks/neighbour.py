"""A busy neighbour: one process keeps a processor busy, while two others talk, or contend for a lock.

Each mechanism, against a round trip of the streams of the same loop; for a lock, the time in which two processes get it twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import trio

from . import contention
from .harness import LOOPS, Aipc, Body, Contestant, Streams, alternate, child, round_trip
from .queues import Queues
from .services.patterns import TrioStream

ANY = (None, None)
TRIPS = 2_000
LOCK_SECONDS = 1.0
PROMISE = 1.2
POSIX = [f"posix-mq:/aipc-bench-{os.getpid()}-{way}" for way in ("there", "back")]


class UvloopStreams(Streams):
    """asyncio's streams on uvloop, which has transports of its own."""

    name, loop = "uvloop streams", "uvloop"


class TrioStreams:
    """trio's SocketStream, with a length before each message."""

    name, loop = "trio streams", "trio"

    async def serve(self, path: str, body: Body, ready: Callable[[], None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen()
            ready()
            sock, _ = await listener.accept()
            async with trio.SocketStream(sock) as stream:
                await body(TrioStream(stream))

    async def connect(self, path: str, body: Body) -> Any:
        async with await trio.open_unix_socket(path) as stream:
            return await body(TrioStream(stream))


STREAMS: Mapping[str, Contestant] = {"asyncio": Streams(), "uvloop": UvloopStreams(), "trio": TrioStreams()}


def _spend() -> None:
    while True:
        pass


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that wants a processor for itself."""
    pid = child(_spend)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def judge_all(judge: Callable[..., None], rounds: int) -> None:
    """No mechanism is much slower there than the streams of its loop."""
    for loop in LOOPS:
        contestants = {
            "unix": Aipc(loop),
            "shm": Aipc(loop, "shm"),
            "two System V queues": Queues(loop),
            "two POSIX queues": Queues(loop, *POSIX),
        }
        with neighbour():
            theirs, *ours = alternate(
                [STREAMS[loop], *contestants.values()], lambda contestant: round_trip(contestant, ANY, TRIPS), rounds
            )
            turns = {kind: 2e6 / contention.share(kind, 2, LOCK_SECONDS, loop)[1] for kind in contention.LOCKS}
        for name, figure in zip(contestants, ours, strict=True):
            judge(f"busy neighbour, {name}, {loop}", theirs, figure, "µs", PROMISE, at_most=True)
        for kind, figure in turns.items():
            judge(f"busy neighbour, {kind}, {loop}", theirs, figure, "µs", PROMISE, at_most=True)
