"""Plain calls in a forked child, of every primitive: it is its parent's, whatever is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import aipc
from aipc.testing.expect import in_child

pytestmark = pytest.mark.anyio


def barrier(key: str, **options: Any) -> Any:
    return aipc.Barrier(key, 4, **options)


CALLS: dict[str, tuple[Callable[..., Any], list[Callable[[Any], object]]]] = {
    "event": (aipc.Event, [lambda it: it.is_set(), lambda it: it.set(), lambda it: it.clear(), lambda it: it.remove()]),
    "barrier": (
        barrier,
        [
            lambda it: it.parties,
            lambda it: it.n_waiting,
            lambda it: it.broken,
            lambda it: it.abort(),
            lambda it: it.reset(),
            lambda it: it.remove(),
        ],
    ),
    "condition": (
        aipc.Condition,
        [lambda it: it.locked(), lambda it: it.acquire_nowait(), lambda it: it.release(), lambda it: it.notify(), lambda it: it.remove()],
    ),
    "rwlock": (
        aipc.RWLock,
        [
            lambda it: it.reader.locked(),
            lambda it: it.writer.locked(),
            lambda it: it.reader.acquire_nowait(),
            lambda it: it.writer.acquire_nowait(),
            lambda it: it.reader.release(),
            lambda it: it.writer.release(),
            lambda it: it.remove(),
        ],
    ),
}  # fmt: skip
"""Every plain call."""


@pytest.mark.parametrize("name", CALLS)
async def test_plain_calls_in_a_forked_child(name: str, key: str) -> None:
    """It is its parent's, whatever is asked; and nothing has changed."""
    opened, calls = CALLS[name]
    async with opened(key, create=True, exclusive=True, unlink=True) as it:

        def use() -> None:
            for call in calls:
                with pytest.raises(aipc.ForkedError):
                    call(it)

        in_child(use)
