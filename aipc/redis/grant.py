"""What a lock's object holds: units, a token, and until when. Renewed while this process lives; lost in time to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aipc._io.loop import backend
from aipc._sys.clock import elapsed

_RENEWALS = 3
"""Renewals in the time of a lease."""
_MARGIN = 0.2
"""The part of a lease that is kept to tell its holder that it ends."""


class Grant:
    """Units that are held, from a moment on. `lost` is called once if they could not be renewed, before the lease ends.

    The time counts by this machine's clock, from the last request that was granted on, when it was sent: the server's lease
    ends later than that.
    """

    def __init__(self, loop: object, name: str, units: int, token: int, ttl: float, asked: float) -> None:
        self.name: str = name
        self.units: int = units
        self.token: int = token
        self.lost: bool = False
        self.told: Callable[[], None] | None = None
        self.renew: Callable[[Grant, Callable[[Any], None]], None] | None = None
        self._loop = loop
        self._ttl = ttl
        self._until = asked + ttl * (1 - _MARGIN)
        self._timer: backend.Timer | None = None
        self._asked: float | None = None
        self._arm()

    def _arm(self) -> None:
        left = max(self._until - elapsed(), 0.0)
        seconds = min(self._ttl / _RENEWALS, left / 2 if self._asked is None else left)
        self._timer = backend.call_later(self._loop, seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        if self.expired:
            self.lose()
            return
        if self._asked is not None or self.renew is None:
            self._arm()
            return
        self._asked = elapsed()
        self._arm()
        self.renew(self, self._renewed)

    def _renewed(self, reply: Any) -> None:
        asked, self._asked = self._asked, None
        if self._timer is None or reply is None or asked is None:
            return
        if reply < self.units:
            self.lose()
        else:
            self._until = max(self._until, asked + self._ttl * (1 - _MARGIN))

    @property
    def expired(self) -> bool:
        """Whether it may have ended by now."""
        return self.lost or elapsed() >= self._until

    def lose(self) -> None:
        """It ended, or is about to: its holder is told."""
        self.lost = True
        self.end()
        if self.told is not None:
            self.told()

    def end(self) -> None:
        """No more renewals."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
