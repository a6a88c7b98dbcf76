"""Debug messages of waits that last: `logging.getLogger("aipc").setLevel(logging.DEBUG)`.

While that is off, a wait only asks whether it is.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from .loop import backend

_logger = logging.getLogger("aipc")
_LONG = 1.0
"""Seconds after which a wait is told, and told again after twice as many, and so on."""
_LOOKS, _MOMENT = 3, 7e-3
"""Looks that must find no task, and the seconds between them: a task that polls is not parked while it tries."""
_watched: dict[Waits, LongWait] = {}


class Waits(Protocol):
    """What tasks wait for."""

    @property
    def waiting(self) -> int:
        """The number of tasks that are parked here."""

    def purpose(self) -> str:
        """The object, and until when its tasks wait."""
        ...


class LongWait:
    """The last wait that began at one object, until no task waits there any more."""

    def __init__(self, waits: Waits, loop: object) -> None:
        self._waits = waits
        self._loop = loop
        self._began = monotonic()
        self._task = backend.task_name()
        self._told = False
        self._absent = 0  # looks in a row that found no task
        self.timer: backend.Timer = backend.call_later(loop, _LONG, self._look)

    def _look(self) -> None:
        seconds = monotonic() - self._began
        if self._waits.waiting:
            _logger.debug("%s: task %s has waited for %.0f s", self._waits.purpose(), self._task, seconds)
            self._told = True
            self._absent = 0
            self.timer = backend.call_later(self._loop, seconds, self._look)
        elif self._absent < _LOOKS:
            self._absent += 1
            self.timer = backend.call_later(self._loop, _MOMENT, self._look)
        else:
            if self._told:
                _logger.debug("%s: task %s waits no more", self._waits.purpose(), self._task)
            _watched.pop(self._waits, None)


def begins(waits: Waits, loop: object) -> None:
    """A task begins to wait, on that loop, which runs here."""
    if _logger.isEnabledFor(logging.DEBUG):
        earlier = _watched.pop(waits, None)
        if earlier is not None:
            earlier.timer.cancel()
        _watched[waits] = LongWait(waits, loop)
