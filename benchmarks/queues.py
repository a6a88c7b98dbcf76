"""System V queues between two processes: busy, after idleness, and from a program that is not aipc's.

`python -m benchmarks.queues`
"""

from __future__ import annotations

import os
import statistics
import struct
from collections.abc import Callable
from time import perf_counter
from typing import Any

import anyio
import sysv_ipc

import aipc

from .harness import LOOPS, TWO_CORES, Body, Contestant, Streams, alternate, between, child, round_trip, run

IDLE, LONG_IDLE = 0.1, 1.0
_KEY = 0x64000000 + os.getpid() % 0x10000 * 16
_TIME = struct.Struct("=d")


class Queues:
    """A queue for each way; the server's own."""

    def __init__(self, loop: str, there: str = f"sysv-mq:{_KEY}", back: str = f"sysv-mq:{_KEY + 1}") -> None:
        self.name, self.loop = f"{there} and {back} ({loop})", loop
        self.there, self.back = there, back

    async def serve(self, _: str, body: Body, ready: Callable[[], None]) -> None:
        owned = {"exclusive": True, "unlink": True}
        async with (
            aipc.open_channel(self.there, **owned) as there,
            aipc.open_channel(self.back, **owned) as back,
        ):
            ready()
            await body(BothWays(back, there))
            await there.receive()  # the client has got all: now the queues may go

    async def connect(self, _: str, body: Body) -> Any:
        async with aipc.open_channel(self.there) as there, aipc.open_channel(self.back) as back:
            result = await body(BothWays(there, back))
            await there.send(b"done")
            return result


class BothWays:
    """One channel to send to, and one to receive from."""

    def __init__(self, outgoing: aipc.Channel, incoming: aipc.Channel) -> None:
        self.send, self.receive = outgoing.send, incoming.receive


def after_idleness(contestant: Contestant, runs: int = 3) -> tuple[float, float]:
    """p50 and p99 of 100 round trips in each of some runs, in ms, each trip after 0.1 s in which nothing happened."""
    trips = 100

    async def echo(channel: Any) -> None:
        for _ in range(trips):
            await channel.send(await channel.receive())

    async def ping(channel: Any) -> list[float]:
        samples = []
        for _ in range(trips):
            await anyio.sleep(IDLE)
            start = perf_counter()
            await channel.send(b"x" * 64)
            await channel.receive()
            samples.append((perf_counter() - start) * 1e3)
        return samples

    cuts = statistics.quantiles([one for _ in range(runs) for one in between(contestant, (None, None), echo, ping)], n=100)
    return cuts[49], cuts[98]


def latest(loop: str, messages: int = 20) -> float:
    """How late the latest message of a program that never rings came, in ms; each after 1 s in which nothing happened."""
    queue = sysv_ipc.MessageQueue(_KEY + 2, sysv_ipc.IPC_CREX)
    reading, writing = os.pipe()

    def give() -> None:
        for _ in range(messages):
            os.read(reading, 1)
            queue.send(_TIME.pack(perf_counter()))

    async def take() -> float:
        worst = 0.0

        async def ask() -> None:
            await anyio.sleep(LONG_IDLE)
            os.write(writing, b"x")

        async with aipc.open_channel(f"sysv-mq:{_KEY + 2}") as channel:
            for _ in range(messages):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    (sent,) = _TIME.unpack(await channel.receive())
                    worst = max(worst, perf_counter() - sent)
        return worst * 1e3

    try:
        pid = child(give)
        worst: float = run(loop, take)
        assert os.waitpid(pid, 0)[1] == 0
        return worst
    finally:
        os.close(reading)
        os.close(writing)
        queue.remove()


def judge_all(judge: Callable[..., None], rounds: int) -> None:
    """Neither late nor busy."""
    for loop in LOOPS:
        busy = alternate([Streams(), Queues(loop)], lambda contestant: round_trip(contestant, TWO_CORES), rounds)
        judge(f"round trip over two System V queues, {loop}", *busy, "µs", 1 / 5, at_most=True)
        judge(f"the same after {IDLE} s of idleness, p99, {loop}", 1, after_idleness(Queues(loop))[1], "ms", 1, at_most=True)
        judge(f"a plain sender's message after {LONG_IDLE:g} s, {loop}", 1, latest(loop), "ms", 12, at_most=True)


def main() -> None:
    for contestant in (Streams(), *map(Queues, LOOPS)):
        busy = round_trip(contestant, TWO_CORES)
        p50, p99 = after_idleness(contestant)
        print(f"{contestant.name}: {busy:.1f} µs busy; after {IDLE} s of idleness {p50:.2f} ms, {p99:.2f} at p99", flush=True)
    for loop in LOOPS:
        print(f"plain sender, {loop}: at most {latest(loop):.1f} ms late", flush=True)


if __name__ == "__main__":
    main()
