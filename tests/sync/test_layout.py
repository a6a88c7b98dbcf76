"""The sets are as the documentation tells a C program (docs/reference/primitives.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import aipc
from aipc.sync.base import Primitive

from .family import values

NEW: dict[str, tuple[Callable[[str], Primitive], list[int]]] = {
    "Event": (lambda key: aipc.Event(key, unlink=True), [0x4101, 1, 0]),
    "Condition": (lambda key: aipc.Condition(key, unlink=True, waiters=3), [0x4102, 0, 0, 0, 0, 0]),
    "Barrier": (lambda key: aipc.Barrier(key, 5, unlink=True), [0x4103, 5, 0, 0]),
    "RWLock": (lambda key: aipc.RWLock(key, unlink=True), [0x4104, 0, 0, 0, 0, 0]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", NEW)
async def test_a_new_set(kind: str, key: str) -> None:
    make, expected = NEW[kind]
    async with make(key):
        assert values(key) == expected
