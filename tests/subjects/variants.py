"""Mechanisms that share their code with another one, and services: a short run has each of their tests on one loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

_VARIANTS = {
    *(
        "unix-u32le",
        "unix-u64",
        "unix-abstract",
        "stream-pair",
        "seqpacket-pair",
        "dgram-pair",
        "fd",
        "fifo-u64",
        "popen-w",
        "popen-r",
    ),
    *("shm-4-KiB", "shm-64-KiB", "shm-16-MiB", "shm-pair", "udp-ipv6", "tcp6", "tls-1.2"),
    *("jobs", "redis", "redis-connection"),
}


def each(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test."""
    return [pytest.param(name, marks=pytest.mark.one_loop) if name in _VARIANTS else name for name in names]
