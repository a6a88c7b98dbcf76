"""Which optional kernel features to use. `AIPC_DISABLE=timerfd,pidfd` switches some off, to test their fallbacks."""

from __future__ import annotations

import os
from functools import cache

FEATURES = frozenset({"membarrier", "order", "spin", "timerfd", "tmpfile"})


@cache
def enabled(feature: str) -> bool:
    """Whether `feature`, one of FEATURES, may be used in this process."""
    if feature not in FEATURES:
        raise KeyError(feature)
    return feature not in os.environ.get("AIPC_DISABLE", "").split(",")
