"""A clock for what others may take over after a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

elapsed: Callable[[], float] = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Seconds since some moment; where the kernel tells, those in which the machine was suspended count as well (clock_gettime(2))."""
