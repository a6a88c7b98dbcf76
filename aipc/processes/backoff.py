"""The pause before a worker is replaced."""

from __future__ import annotations


class Backoff:
    """No pause after the first failure, then longer pauses each time, up to a limit. All times are in seconds."""

    __slots__ = ("_failures", "_first", "_healthy_after", "_limit")

    def __init__(self, first: float, limit: float, healthy_after: float) -> None:
        self._first = first
        self._limit = limit
        self._healthy_after = healthy_after
        self._failures = 0

    def after(self, lived: float) -> float:
        """Return the pause, in seconds, after a worker that lived for `lived` seconds."""
        if lived >= self._healthy_after:
            self._failures = 0
        self._failures += 1
        return 0 if self._failures == 1 else min(self._first * 2 ** min(self._failures - 2, 60), self._limit)
