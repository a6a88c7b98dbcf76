"""Whether a wait spins before it parks, and how long: learnt from how long the waits of its event loop last.

To park and to be woken costs some 50 µs of latency, and processor time on both sides. A spin that meets the event saves
both; one that does not is wasted. So a loop spins while its waits are expected to end sooner than parking pays, and for a few
times as long as they last. Parked waits count as well: so a loop that had stopped to spin begins again when its peers are quick.

One wait spins at a time in a loop, and it looks for the events of all: see `Reactor.poll_now`.

The peer may need the same processor: where a process may use one only, and where others keep the rest busy. If it answered while
a spin gave way, the next spin gives way first, and looks once. On the only processor it does so a few times: two passes of an event
loop cost more than that.
"""

from __future__ import annotations

import os
from time import perf_counter

LONGEST = 200e-6
"""Seconds: no wait spins longer, and none spins while waits are expected to last longer. About twice what parking costs."""
SHORTEST = 50e-6
"""Seconds: a spin lasts as long at least, so that it still meets an answer from a peer that had to be woken."""
_FACTOR = 4
"""How many times longer than expected a spin lasts: waits vary."""
MOST_COUNTED = 4 * LONGEST
"""A longer wait counts as if it had lasted so long: one of hours must not be remembered for hours."""
WEIGHT = 1 / 8
"""Of the last wait, in the expectation."""
_YIELDED = 5e-6
"""Seconds: a sched_yield(2) that takes longer has let another process run."""
_YIELDS = 3
"""How often a spin gives way to others that want the only processor, before it parks."""
MOST_IN_A_ROW = 8
"""Messages that spinning tasks receive while others that were woken wait for their turn: each takes some 20 µs."""
_MOST_SKIPPED = 256
"""Waits parked without a spin, at most, where another process wants this processor."""


class Spin:
    """What one event loop has learnt about its waits."""

    __slots__ = (
        "_alone", "_began", "_given", "_longest", "_penalty", "_shared", "_skip", "active", "expected", "in_a_row", "lost",
    )  # fmt: skip

    def __init__(self) -> None:
        self.active: bool = False
        """Whether a wait of this loop spins now."""
        self.in_a_row: int = 0
        """0; or other tasks of this loop were woken and wait for their turn: 1 and the messages of spinning tasks since then."""
        self.expected: float = SHORTEST  # seconds that the next wait lasts
        self.lost: float = 0.0
        """Seconds for which other processes ran while it gave way."""
        self._began = 0.0
        self._longest = LONGEST
        self._penalty = 1
        self._skip = 0
        self._given = 0  # how often others ran
        self._alone = len(os.sched_getaffinity(0)) == 1
        self._shared = self._alone  # whether the peer seems to need this processor, too: it ran when this process gave way

    def wait_begins(self, patience: int = 1, longest: float = LONGEST) -> float:
        """Until when to spin, by `perf_counter`; 0 to park at once. `patience` multiplies the time; `longest`: seconds that pay."""
        self._began = now = perf_counter()
        self._longest = longest
        if not self.pays(patience * longest):
            self._skip = max(self._skip - 1, 0)
            return 0.0
        return now + patience * min(max(_FACTOR * self.expected, SHORTEST), longest)

    def wait_ends(self) -> None:
        """A wait was successful, whether it spun or parked."""
        lasted = min(perf_counter() - self._began, MOST_COUNTED)
        self.expected += (lasted - self.expected) * WEIGHT

    def begins(self) -> None:
        """A wait spins now."""
        self.active = True
        self.lost, self._given = 0.0, 0
        if self._shared:
            self.give_way()
            self._shared = self._given > 0

    def was_useful(self, *, at_once: bool) -> None:
        """The spin met its event, and so the wait ends; `at_once`: at the first look, which takes no clock."""
        self.in_a_row += self.in_a_row > 0
        if self.lost >= self._longest:
            self._shared = self._alone
            self.wait_ends()
            self._park_next()
            return
        self._shared = self._shared or self._given > 0
        if at_once:
            self.was_quick()
        else:
            self.wait_ends()
            self._penalty = self._penalty // 2 or 1

    def was_quick(self) -> None:
        """A wait was over at the first look, without a clock."""
        self.expected *= 1 - WEIGHT
        self._penalty = self._penalty // 2 or 1

    def give_way(self) -> None:
        """Let another process run if one wants this processor.

        The kernel often wakes a peer on the processor of the process that wakes it, even if another one is idle. There it can't
        answer while this process spins. If it answers now, all is well: soon the kernel moves one of the two. If another process
        took the time, the next waits park: a task that is woken gets the processor sooner than one that spins.
        """
        before = perf_counter()
        os.sched_yield()
        took = perf_counter() - before
        if took > _YIELDED:
            self.lost += took
            self._given += 1
            self._shared = self._alone

    @property
    def gave_enough(self) -> bool:
        """Whether others ran so often that it must park."""
        return self._given >= (_YIELDS if self._alone else 1)

    @property
    def brief(self) -> bool:
        """Whether one look is enough: the peer can't run on this processor meanwhile."""
        return self._shared and self._given > 0

    def in_vain(self) -> None:
        """The spin met nothing."""
        self._alone = self._shared = len(os.sched_getaffinity(0)) == 1
        if self._given:
            self._park_next()

    def _park_next(self) -> None:
        self._skip = self._penalty
        self._penalty = min(2 * self._penalty, _MOST_SKIPPED)

    def pays(self, longest: float = LONGEST) -> bool:
        """Whether a wait may spin now."""
        return not (self.active or self._skip) and self.expected <= longest
