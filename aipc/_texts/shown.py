"""The text of `repr`: what an object is, its name, and its state as this process knows it.

Nothing is kept for it, nothing is waited for, and nothing is asked of another process or server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

from aipc._io import fork
from aipc._io.handle import Handle
from aipc._io.loop.wait_queue import WaitQueue

_FORKED = "opened before fork(2)"
Fact: TypeAlias = str | Callable[[], str]
"""A text, empty if there is nothing to tell; or a call that returns it, and may fail."""


def shown(what: object, facts: Callable[[], Iterable[Fact]]) -> str:
    """`<Type name: fact, fact>`. The first of `facts` is the name.

    It never raises. A fact whose call fails is left out; of an object that is only half made, so is all that follows.
    """
    told: list[str] = []
    with suppress(Exception):
        for fact in facts():
            told.append(_told(fact))  # noqa: PERF401 - what was told before an error stays
    name, *rest = told or [""]
    text = f"{type(what).__name__} {name}".rstrip()
    return f"<{': '.join([text, *filter(None, [', '.join(filter(None, rest))])])}>"


def _told(fact: Fact) -> str:
    if isinstance(fact, str):
        return fact
    with suppress(Exception):
        return fact()
    return ""


def state(*handles: Handle) -> str:
    """Whether what these handles own can be used here."""
    if all(handle.closed for handle in handles):
        return "closed"
    return _FORKED if any(handle.forked for handle in handles) else "open"


def usable(closed: bool, generation: int) -> str:
    """`state`, of an object without a handle that was made in that generation of the process."""
    return "closed" if closed else "open" if generation == fork.generation else _FORKED


def counted(number: int, thing: str) -> str:
    """`1 message`, `2 messages`; nothing for 0."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}" if number else ""


def parked(waiting: WaitQueue | int | None, purpose: str = "") -> str:
    """How many tasks of this process wait there: `2 tasks wait to receive`."""
    number = waiting if isinstance(waiting, int) else 0 if waiting is None else waiting.waiting
    return f"{counted(number, 'task')} {'waits' if number == 1 else 'wait'} {purpose}".rstrip() if number else ""
