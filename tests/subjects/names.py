"""Names and keys that no other test uses."""

from __future__ import annotations

import itertools
import os

_keys = itertools.count(0x61690000 + os.getpid() % 0x8000 * 16)


def new_key() -> str:
    """A System V key that no other test uses."""
    return hex(next(_keys))


def new_name() -> str:
    """A name for a POSIX object that no other test uses."""
    return f"/aipc-test-{os.getpid()}-{next(_keys)}"
