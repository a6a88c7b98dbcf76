"""The parts of a benchmark run, by name: each judges the promises of its subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import connections, contention, idle, killed_holder, neighbour, queues, ring
from .harness import LOOPS, ONE_CORE, TWO_CORES, Aipc, Streams, alternate, one_way, round_trip
from .services import redis
from .services.patterns import PATTERNS, Contestant, alternate_kinds

Judge = Callable[..., None]
Part = Callable[[Judge, int], None]


def streams(judge: Judge, rounds: int) -> None:
    """Unix sockets against asyncio's streams."""
    for loop in LOOPS:
        pair = [Streams(), Aipc(loop)]
        figures = alternate(pair, lambda c: round_trip(c, TWO_CORES), rounds)
        judge(f"round trip, two cores, {loop}", *figures, "µs", 1 / 8, at_most=True)
        figures = alternate(pair, lambda c: round_trip(c, ONE_CORE), rounds)
        judge(f"round trip, one core, {loop}", *figures, "µs", 1.15, at_most=True)
        figures = alternate(pair, lambda c: one_way(c, TWO_CORES), rounds)
        judge(f"send_many, two cores, {loop}", *figures, "messages/s", 5, at_most=False)
        figures = alternate(pair, lambda c: ring.bulk(c, TWO_CORES), rounds)
        judge(f"1 MiB messages, {loop}", *figures, "bytes/s", 6, at_most=False)


PROMISES: Mapping[tuple[str, str], tuple[float, float, float]] = {
    ("calls, one in flight", "asyncio"): (0.4, 0.7, 1.1),
    ("calls, one in flight", "uvloop"): (0.6, 0.7, 1.1),
    ("calls, one in flight", "trio"): (0.6, 1.0, 1.1),
    ("calls", "asyncio"): (0.4, 0.7, 1.1),
    ("calls", "uvloop"): (0.6, 0.7, 1.1),
    ("calls", "trio"): (0.6, 1.0, 1.1),
    ("four clients", "asyncio"): (0.6, 1.0, 1.1),
    ("four clients", "uvloop"): (0.6, 1.0, 1.1),
    ("four clients", "trio"): (0.6, 1.0, 1.1),
    ("calls, 100 in flight", "asyncio"): (1.0, 1.2, 1.0),
    ("calls, 100 in flight", "uvloop"): (1.0, 1.2, 1.0),
    ("calls, 100 in flight", "trio"): (1.0, 1.2, 1.0),
}
"""By pattern and loop: p50, p99 and processor time, as ratios to the loop's own streams. Others: 1.1 each."""


def patterns(judge: Judge, rounds: int) -> None:
    """What services do, against the streams of the same loop."""
    for loop in LOOPS:
        for pattern in PATTERNS:
            seen = alternate_kinds(loop, pattern, min(rounds, 3))
            promises = PROMISES.get((pattern.name, loop), (1.1, 1.1, 1.1))
            for what, promise in zip(("p50", "p99", "processor"), promises, strict=True):
                judge(f"{pattern.name}, {what}, {loop}", *seen[what], "µs", promise, at_most=True)


def many_connections(judge: Judge, rounds: int) -> None:
    """A server's processor time a request, and its rate."""
    for loop, promise in (("asyncio", 0.5), ("uvloop", 1.0), ("trio", 0.75)):
        contestants = [Contestant(kind, loop) for kind in ("streams", "aipc")]
        figures = alternate(contestants, lambda c: connections.measure(c, 100, 20_000)[0], min(rounds, 3))
        judge(f"100 connections, processor a request, {loop}", *figures, "µs", promise, at_most=True)
        figures = alternate(contestants, lambda c: connections.measure(c, 10_000, 50_000)[1], 1)
        judge(f"10,000 connections, rate, {loop}", *figures, "requests/s", 1.5, at_most=False)


def idleness(judge: Judge, _: int) -> None:
    """What waits for hours costs nothing."""
    memory = alternate(["streams", "aipc"], lambda kind: idle.measure("memory", kind), 3)
    judge("memory of an idle connection", *memory, "bytes", 1 / 2, at_most=True)
    for loop in LOOPS:
        core = idle.measure("idle", loop, "sysv-mq:private")["core"]
        judge(f"idle System V queue, {loop}", 1, core, "of a core", 0.005, at_most=True)
        wakes = idle.measure("idle", loop, "pair")["wakes"]
        judge(f"idle Unix channel, {loop}", 1, wakes, "wake-ups/s", 0.5, at_most=True)
        core = idle.measure("idle", loop, "fifo")["core"]
        judge(f"FIFO whose last writer left, {loop}", 1, core, "of a core", 0.01, at_most=True)
        wakes = idle.measure("idle", loop, "shm-pair")["wakes"]
        judge(f"idle ring, {loop}", 1, wakes, "wake-ups/s", 0.5, at_most=True)


def locks(judge: Judge, _: int) -> None:
    """Nobody starves; contended, faster than others; a killed holder's lock is free soon."""
    for kind in contention.LOCKS:
        for processes in contention.PROCESSES:
            for hold in (0.0, 1e-3):
                least, _ = contention.share(kind, processes, 5.0, hold=hold)
                what = f"{kind}, {processes} processes, {hold * 1e3:g} ms each: least share"
                judge(what, 1, least, "of fair", 1 / 2, at_most=False)
    ours = contention.rate("aipc")
    for theirs, promise in contention.OTHERS.items():
        judge(f"contended sysv-sem, against {theirs}", contention.rate(theirs), ours, "acquisitions/s", promise, at_most=False)
    for kind in killed_holder.KINDS:
        _, most = killed_holder.latencies(kind, kills=200)
        judge(f"{kind}: killed holder, p99", 1, most, "ms", 20, at_most=True)


PARTS: Mapping[str, Part] = {
    "streams": streams,
    "patterns": patterns,
    "connections": many_connections,
    "rings": ring.judge_all,
    "queues": queues.judge_all,
    "neighbour": neighbour.judge_all,
    "idle": idleness,
    "locks": locks,
    "redis": redis.judge_all,
}
