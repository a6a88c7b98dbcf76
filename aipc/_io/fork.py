"""fork(2): which generation of the process this is, and what to do first in a child.

A forked child's copy of a channel or lock would share its parent's place in the byte stream and its loop's epoll set
(python/cpython#66285), so every object remembers the generation that it was made in, and refuses to work in another.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from aipc.exceptions import ForkedError

generation = 0
_calls: list[Callable[[], None]] = []


def in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Call `function` in each forked child, in the order of registration."""
    _calls.append(function)
    return function


def _child_began() -> None:
    global generation  # noqa: PLW0603 - one process has one
    generation += 1
    for call in _calls:
        call()


os.register_at_fork(after_in_child=_child_began)


def check(made_in: int, what: object) -> None:
    """ForkedError if what was made in that generation is a forked child's copy by now."""
    if made_in != generation:
        raise ForkedError(f"{what}: opened before fork(2); open it anew in the child")
