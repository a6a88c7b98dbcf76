"""One fixture decides on which loops a test runs: `anyio_backend`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis as hypothesis  # before the freeze below, which would hide from it who uses its random numbers
import pytest
import uvloop

from aipc.testing import nothing_left

from . import namespace
from .peers import the_template
from .subjects import BLOCKED_SIGNALS, new_key

signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)  # and so in every thread that starts after this

namespace.enter()

LOOPS = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The kernel counts the signals that are queued for all processes of a user (RLIMIT_SIGPENDING)."""
    for item in items:
        if "signal" in item.nodeid:
            item.add_marker("alone")


def pytest_collection_finish() -> None:
    """What is there by now stays: the leak check's collections need not look at it, which takes most of their time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _template() -> None:
    """What it has open is open as long as the process lives, and it starts while the first tests run."""
    the_template()


@pytest.fixture(autouse=True, scope="session")
def _first_uvloop() -> None:
    """libuv's first loop opens a pipe for signals, and keeps it as long as the process lives."""

    async def nothing() -> None: ...

    uvloop.run(nothing())


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield
    gc.freeze()  # likewise what pytest keeps of each test: looking at it took a third of the suite's time


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory whose name is short enough for a socket in it."""
    return tmp_path


@pytest.fixture
def key() -> str:
    """A System V key that nobody else uses."""
    return new_key()
