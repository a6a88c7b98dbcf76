"""Fixtures for pytest: `aipc_url`, `sysv_key`, `nothing_left`. They are plain ones, and go with each plugin that runs async tests.

Nothing else of aipc is imported before a test uses one of them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

_numbers = itertools.count(1)
_FILES = {"unix": "socket", "unix+seqpacket": "socket", "unix+dgram": "socket", "shm": "ring", "fifo": "fifo"}
_FILES |= {"flock": "lock", "fcntl": "lock", "jobs": "jobs"}
_NAMED = ("posix-mq", "posix-sem", "sysv-mq", "sysv-sem")
_FIRST_KEY = 0x61690000


@pytest.fixture
def aipc_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A URL that no other test uses: `unix:` in `tmp_path`. `@pytest.mark.parametrize("aipc_url", ["shm"], indirect=True)` for others.

    Schemes: unix, unix+seqpacket, unix+dgram, shm, fifo, flock, fcntl, jobs; posix-mq, posix-sem, sysv-mq, sysv-sem; tcp, with the
    port 0. What the test has left at the URL is removed, unless it uses `nothing_left`, too.
    """
    scheme = getattr(request, "param", "unix")
    if scheme in _FILES:
        yield f"{scheme}:{tmp_path}/aipc-{_FILES[scheme]}"
    elif scheme == "tcp":
        yield "tcp://127.0.0.1:0"
    elif scheme in _NAMED:
        name = _new_key() if scheme.startswith("sysv-") else f"/aipc-test-{os.getpid()}-{next(_numbers)}"
        yield f"{scheme}:{name}"
        _remove(request, scheme, name)
    else:
        raise pytest.UsageError(f"aipc_url: no scheme {scheme!r} here; there are {', '.join([*_FILES, *_NAMED, 'tcp'])}")


@pytest.fixture
def sysv_key(request: pytest.FixtureRequest) -> Iterator[str]:
    """A System V key that nobody uses, such as `0x61690001`. Objects that the test has left there are removed, as for `aipc_url`."""
    key = _new_key()
    yield key
    for kind in ("sysv-mq", "sysv-sem", "sysv-shm"):
        _remove(request, kind, key)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The test fails if it leaves descriptors, child processes, or System V or POSIX objects of this process or its children."""
    from aipc.testing.process_tree import nothing_left_by_tree

    with nothing_left_by_tree():
        yield


def _new_key() -> str:
    from aipc._sys.sysv import tables

    used = {row["key"] for kind in tables.KINDS for row in tables.rows(kind)}
    start = _FIRST_KEY + os.getpid() % 0x8000 * 0x100  # processes that run tests side by side
    return hex(next(key for key in (start + number for number in _numbers) if key not in used))


def _remove(request: pytest.FixtureRequest, kind: str, name: str) -> None:
    import aipc

    if "nothing_left" not in request.fixturenames:
        with suppress(aipc.ObjectMissing):
            aipc.remove_object(kind, name)
