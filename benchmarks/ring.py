"""Shared memory against what it has to beat: bytes a second of 1 MiB messages, memcpy, and a C program's ping-pong."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from .harness import LOOPS, Aipc, Contestant, Streams, alternate, between, one_way, round_trip

MEGABYTE = 1 << 20
FIRST = b"\0" * 8


def bulk(contestant: Contestant, cores: tuple[int, int], messages: int = 500) -> float:
    """Bytes a second of 1 MiB messages, received whole."""

    async def take(channel: Any) -> None:
        for _ in range(messages):
            assert len(await channel.receive()) == MEGABYTE
        await channel.send(FIRST)

    async def give(channel: Any) -> float:
        payload = bytes(MEGABYTE)
        await channel.send(payload)
        start = perf_counter()
        for _ in range(messages - 1):
            await channel.send(payload)
        await channel.receive()
        return (messages - 1) * MEGABYTE / (perf_counter() - start)

    return float(between(contestant, cores, take, give))


def lent(contestant: Contestant, cores: tuple[int, int], messages: int = 5_000) -> float:
    """Bytes a second of 1 MiB loans and views: the sender writes, and the receiver reads, its first byte and its last."""

    async def take(channel: Any) -> None:
        for number in range(messages):
            async with channel.receive_view() as view:
                assert view[0] == view[-1] == number & 255
        await channel.send(FIRST)

    async def give(channel: Any) -> float:
        start = perf_counter()
        for number in range(messages):
            async with channel.loan(MEGABYTE) as view:
                view[0] = view[-1] = number & 255
        await channel.receive()
        return messages * MEGABYTE / (perf_counter() - start)

    return float(between(contestant, cores, take, give))


def memcpy(copies: int = 500) -> float:
    """Bytes a second of copies of 1 MiB from one buffer into another, in this process."""
    source, target = bytearray(MEGABYTE), memoryview(bytearray(MEGABYTE))
    target[:] = source
    start = perf_counter()
    for _round in range(copies):
        target[:] = source
    return copies * MEGABYTE / (perf_counter() - start)


class InC:
    """Two processes that block in read(2) and write(2) on a Unix socket: `pingpong.c`."""

    name, loop = "C, blocking", ""

    def __init__(self, directory: str) -> None:
        self._program = f"{directory}/pingpong"
        source = Path(__file__).with_name("pingpong.c")
        subprocess.run(["cc", "-O2", "-o", self._program, str(source)], check=True)

    def round_trip(self, cores: tuple[int, int]) -> float:
        """p50 of a round trip of 64 bytes, in µs."""
        done = subprocess.run([self._program, *map(str, cores)], check=True, capture_output=True, text=True)
        return float(done.stdout)


Judge = Callable[..., None]


def judge_all(judge: Judge, rounds: int) -> None:
    """The ring's promises, against asyncio's streams, memcpy and C, all in this run. `judge` as in `__main__`."""
    cores = (0, 1)
    streams = Streams()
    with tempfile.TemporaryDirectory() as directory:
        in_c = InC(directory)
        for loop in LOOPS:
            shm = Aipc(loop, "shm")
            pair = [streams, shm]
            figures = alternate(pair, lambda c: round_trip(c, cores), rounds)
            judge(f"ring: round trip, {loop}", *figures, "µs", 1 / 30, at_most=True)
            figures = alternate([in_c, shm], lambda c: in_c.round_trip(cores) if c is in_c else round_trip(c, cores), rounds)
            judge(f"ring: round trip, {loop}, against C on a socket", *figures, "µs", 1 / 5, at_most=True)
            figures = alternate(pair, lambda c: round_trip(c, (0, 0)), rounds)
            judge(f"ring: round trip, one core, {loop}", *figures, "µs", 1.15, at_most=True)
            (figure,) = alternate([shm], lambda c: one_way(c, cores), rounds)
            judge(f"ring: send_many, {loop}, against 1.5 million", 1.5e6, figure, "messages/s", 1, at_most=False)
            figures = alternate(pair, lambda c, shm=shm: bulk(c, cores, 2_000 if c is shm else 200), rounds)  # 80 ms, 400 ms
            judge(f"ring: 1 MiB, {loop}", *figures, "bytes/s", 40, at_most=False)
            figures = alternate([memcpy, shm], lambda c: memcpy() if c is memcpy else bulk(c, cores), rounds)
            judge(f"ring: 1 MiB, {loop}, against memcpy", *figures, "bytes/s", 0.35, at_most=False)
            figures = alternate([bulk, lent], lambda way, shm=shm: way(shm, cores), rounds)
            judge(f"ring: 1 MiB lent, {loop}, against copied", *figures, "bytes/s", 2, at_most=False)


def main() -> None:
    """`python -m benchmarks.ring`: only these figures."""
    cores = (0, 1)
    shm, streams = Aipc(sys.argv[1] if len(sys.argv) > 1 else "asyncio", "shm"), Streams()
    with tempfile.TemporaryDirectory() as directory:
        in_c = InC(directory)
        for what, measure in (
            ("round trip, µs: streams", lambda: round_trip(streams, cores)),
            ("round trip, µs: C", lambda: in_c.round_trip(cores)),
            ("round trip, µs: shm", lambda: round_trip(shm, cores)),
            ("one way, messages/s: shm", lambda: one_way(shm, cores)),
            ("1 MiB, bytes/s: streams", lambda: bulk(streams, cores, 200)),
            ("1 MiB, bytes/s: shm", lambda: bulk(shm, cores)),
            ("1 MiB, bytes/s: shm, lent", lambda: lent(shm, cores)),
            ("1 MiB, bytes/s: memcpy", memcpy),
        ):
            figures = [measure() for _ in range(5)]
            print(f"{what:30} {statistics.median(figures):12.4g}   {min(figures):12.4g} to {max(figures):.4g}", flush=True)


if __name__ == "__main__":
    main()
