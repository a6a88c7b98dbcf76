"""Switches for optional kernel features. `AIPC_DISABLE=timerfd,spin` disables some of them, to test their fallbacks."""

from __future__ import annotations

import os
from functools import cache

from aipc.exceptions import AddressError

FEATURES = frozenset({"doorbell", "membarrier", "native", "order", "spin", "timerfd", "tmpfile"})


@cache
def enabled(feature: str) -> bool:
    """Whether `feature`, one of FEATURES, may be used in this process."""
    if feature not in FEATURES:
        raise KeyError(feature)
    return feature not in _disabled()


def _disabled() -> set[str]:
    """Return the disabled features. AddressError if AIPC_DISABLE names an unknown one."""
    names = {name.strip() for name in os.environ.get("AIPC_DISABLE", "").split(",")} - {""}
    if unknown := names - FEATURES:
        unknown_names = ", ".join(sorted(unknown))
        raise AddressError(f"AIPC_DISABLE: no feature is called {unknown_names}; there are {', '.join(sorted(FEATURES))}")
    return names


_disabled()  # at the first import: later an error could leak what is open
