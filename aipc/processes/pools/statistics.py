"""What a pool knows about its work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool at this moment.

    workers     the workers that run
    busy        those that work at a request, also at one that was cancelled
    waiting     requests that have no worker yet
    answered    requests that were answered since the pool was made
    restarts    workers that were started in the place of one that had ended
    latency     the median of the last 1,000 answered requests, in seconds, the wait for a worker included; 0.0 if there was none
    latency_p99 the same, exceeded by one request in a hundred
    """

    workers: int
    busy: int
    waiting: int
    answered: int
    restarts: int
    latency: float
    latency_p99: float


def quantiles(seconds: Iterable[float], *parts: float) -> list[float]:
    """Return for each part, between 0 and 1, the time that this part of all does not exceed; 0.0 if there are none."""
    ordered = sorted(seconds)
    return [ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0 for part in parts]
