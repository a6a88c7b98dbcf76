"""How often and how many: a little in the suite, which has to be quick; a lot with `AIPC_TESTS=long`, as nox runs it."""

from __future__ import annotations

import os

LONG = os.environ.get("AIPC_TESTS") == "long"
EVERY_LOOP = LONG or os.environ.get("AIPC_TESTS") == "loops"
"""Whether each test runs on asyncio, uvloop and trio."""


def times(short: int, long: int) -> int:
    """The count of this run."""
    return long if LONG else short


CANCELLATIONS = int(os.environ.get("AIPC_TESTS_CANCELLATIONS", times(60, 10_000)))
"""Of each operation, on each loop."""
