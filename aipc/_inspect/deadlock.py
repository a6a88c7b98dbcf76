"""Processes that wait for each other in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .inspection import Inspection


def deadlocks(inspections: Iterable[Inspection]) -> Iterator[str]:
    """Say each circle of processes, of which every one waits for what the next one holds.

    Tasks of one process that wait for each other are not found: from outside they look like tasks that wait for their turn.
    """
    waits = _waits(inspections)
    said: set[frozenset[int]] = set()
    for first in sorted(waits):
        circle = _circle(waits, [first])
        if circle and frozenset(circle) not in said:
            said.add(frozenset(circle))
            steps = [f"process {pid} waits for {waits[pid][other]}, held by {other}" for pid, other in _pairs(circle)]
            yield f"deadlock: {'; '.join(steps)}"


def _waits(inspections: Iterable[Inspection]) -> Mapping[int, Mapping[int, str]]:
    """For each process that waits, those it waits for, and the URL."""
    waits: dict[int, dict[int, str]] = {}
    for one in inspections:
        for waiter in one.waiters:
            for holder in one.holders:
                if holder.pid != waiter.pid:
                    waits.setdefault(waiter.pid, {}).setdefault(holder.pid, one.url)
    return waits


def _circle(waits: Mapping[int, Mapping[int, str]], path: list[int]) -> list[int]:
    """A way from the last process of `path` back to its first; empty if there is none."""
    seen = set(path)
    ways = [path]
    while ways:
        way = ways.pop()
        for following in sorted(waits.get(way[-1], ())):
            if following == way[0]:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def _pairs(circle: list[int]) -> Iterator[tuple[int, int]]:
    return zip(circle, [*circle[1:], circle[0]], strict=True)
