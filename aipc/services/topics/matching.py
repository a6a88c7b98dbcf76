"""Matching topics and subscribers: patterns as for fnmatch, case-sensitive, with cached answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Generic, TypeVar

Member = TypeVar("Member")

_REMEMBERED = 1024


def matcher(patterns: Sequence[str]) -> Callable[[str], object]:
    """Return a function that is true for the topics that a pattern matches; without patterns, for all topics."""
    if not patterns:
        return lambda topic: True
    return re.compile("|".join(map(translate, patterns))).match


class Members(Generic[Member]):
    """The subscribers, by the topics that they want."""

    def __init__(self) -> None:
        self._wants: dict[Member, Callable[[str], object]] = {}
        self._known: dict[str, tuple[Member, ...]] = {}

    def __len__(self) -> int:
        return len(self._wants)

    def all(self) -> tuple[Member, ...]:
        """Everybody."""
        return tuple(self._wants)

    def add(self, member: Member, wants: Callable[[str], object]) -> None:
        """Add a subscriber."""
        self._wants[member] = wants
        self._known.clear()

    def remove(self, member: Member) -> None:
        """Remove a subscriber."""
        self._wants.pop(member, None)
        self._known.clear()

    def of(self, topic: str) -> tuple[Member, ...]:
        """The subscribers that want this topic."""
        known = self._known.get(topic)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[topic] = tuple(member for member, wants in self._wants.items() if wants(topic))
        return known
