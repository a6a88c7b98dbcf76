"""`python -m benchmarks`: every promise about speed as a ratio within this run; exit status 1 if one does not hold."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from . import contention, killed_holder, queues
from .harness import LOOPS, ONE_CORE, TWO_CORES, Aipc, Streams, alternate, one_way, round_trip
from .idle import measure
from .ring import bulk, judge_all

ROUNDS = 7


def main() -> int:
    """Measure, print a table, and judge."""
    table = Table("what", "asyncio streams", "aipc", "ratio", "promise", "verdict")
    failed = 0

    def judge(what: str, theirs: float, ours: float, unit: str, promise: float, *, at_most: bool) -> None:
        nonlocal failed
        ratio = ours / theirs
        good = ratio <= promise if at_most else ratio >= promise
        failed += not good
        bound = f"{'≤' if at_most else '≥'} {promise:.3f}"
        table.add_row(what, f"{theirs:.3g} {unit}", f"{ours:.3g} {unit}", f"{ratio:.3f}", bound, "ok" if good else "MISSED")

    for loop in LOOPS:
        pair = [Streams(), Aipc(loop)]
        judge(
            f"round trip, two cores, {loop}",
            *alternate(pair, lambda c: round_trip(c, TWO_CORES), ROUNDS),
            "µs",
            1 / 8,
            at_most=True,
        )
        judge(
            f"round trip, one core, {loop}",
            *alternate(pair, lambda c: round_trip(c, ONE_CORE), ROUNDS),
            "µs",
            1.15,
            at_most=True,
        )
        judge(
            f"send_many, two cores, {loop}",
            *alternate(pair, lambda c: one_way(c, TWO_CORES), ROUNDS),
            "messages/s",
            5,
            at_most=False,
        )
        judge(
            f"1 MiB messages, {loop}",
            *alternate(pair, lambda c: bulk(c, TWO_CORES), ROUNDS),
            "bytes/s",
            6,
            at_most=False,
        )
    judge_all(judge, ROUNDS)
    queues.judge_all(judge, ROUNDS)
    memory = alternate(["streams", "aipc"], lambda kind: measure("memory", kind), 3)
    judge("memory of an idle connection", *memory, "bytes", 1 / 2, at_most=True)
    for loop in LOOPS:
        idle = measure("idle", loop, "sysv-mq:private")
        judge(f"idle System V queue, {loop}", 1, idle["core"], "of a core", 0.005, at_most=True)
        idle = measure("idle", loop, "pair")
        judge(f"idle Unix channel, {loop}", 1, idle["wakes"], "wake-ups/s", 0.5, at_most=True)
        idle = measure("idle", loop, "fifo")
        judge(f"FIFO whose last writer left, {loop}", 1, idle["core"], "of a core", 0.01, at_most=True)
        idle = measure("idle", loop, "shm-pair")
        judge(f"idle ring, {loop}", 1, idle["wakes"], "wake-ups/s", 0.5, at_most=True)
    judge_locks(judge)
    Console().print(table)
    return 1 if failed else 0


def judge_locks(judge: Callable[..., None]) -> None:
    """Nobody starves; contended, faster than others; a killed holder's lock is had soon."""
    for kind in contention.LOCKS:
        for processes in contention.PROCESSES:
            for hold in (0.0, 1e-3):
                least, _ = contention.share(kind, processes, hold=hold)
                what = f"{kind}, {processes} processes, {hold * 1e3:g} ms each: least share"
                judge(what, 1, least, "of fair", 1 / 2, at_most=False)
    ours = contention.rate("aipc")
    for theirs, promise in contention.OTHERS.items():
        judge(f"contended sysv-sem, against {theirs}", contention.rate(theirs), ours, "acquisitions/s", promise, at_most=False)
    for kind in killed_holder.KINDS:
        _, most = killed_holder.latencies(kind)
        judge(f"{kind}: killed holder, p99", 1, most, "ms", 20, at_most=True)


if __name__ == "__main__":
    sys.exit(main())
