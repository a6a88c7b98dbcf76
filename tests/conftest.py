"""One fixture decides on which loops a test runs: `anyio_backend`."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import hypothesis  # before the freeze below, which would hide from it who uses its random numbers
import pytest
import uvloop

from aipc._sys import membarrier, probes
from aipc.testing import nothing_left

from . import namespace
from .peers import the_template
from .subjects import BLOCKED_SIGNALS, EVERY_LOOP, alone_with_signals, new_key, times

signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)  # and so in every thread that starts after this

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # `nohup ... &`; the children would ignore it, too (signal(7))
    signal.signal(signal.SIGINT, signal.default_int_handler)

namespace.enter()

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each interpreter that a test starts compiles aipc anew
sys.dont_write_bytecode = False

hypothesis.settings.register_profile(
    "aipc",
    max_examples=times(30, 100),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # so is a busy machine
)
hypothesis.settings.load_profile("aipc")

LOOPS = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A short run has each test on one loop, which its name and its other parameters decide; `AIPC_TESTS=loops` on each.

    So each room is tested on all three, and a run takes two minutes instead of six. It leaves out the tests that are marked as costly,
    unless their file is named.
    """
    if EVERY_LOOP or any("[" in argument for argument in config.args):
        return
    named = any(argument.partition("::")[0].endswith(".py") for argument in config.args)
    left = [
        item
        for item in items
        if _loop(item) != _its_loop(item) or (not named and item.get_closest_marker("costly") is not None)
    ]
    config.hook.pytest_deselected(items=left)
    gone = set(left)
    items[:] = [item for item in items if item not in gone]


def _loop(item: pytest.Item) -> str:
    return next((loop for loop in LOOPS if re.search(rf"[\[-]{loop}[\]-]", item.name)), "")


def _its_loop(item: pytest.Item) -> str:
    loop = _loop(item)
    return loop and [*LOOPS][zlib.crc32(item.nodeid.replace(loop, "").encode()) % len(LOOPS)]


def pytest_collection_finish() -> None:
    """What is there by now stays: the leak check's collections need not look at it, which takes most of their time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _template() -> None:
    """What it has open is open as long as the process lives, and it starts while the first tests run."""
    namespace.be_an_ordinary_user()
    the_template()


@pytest.fixture(autouse=True, scope="session")
def _first_uvloop() -> None:
    """libuv's first loop opens a pipe for signals, and keeps it as long as the process lives."""

    async def nothing() -> None: ...

    uvloop.run(nothing())


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    with alone_with_signals() if "signal" in request.node.nodeid else nullcontext(), nothing_left():
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


@pytest.fixture
def all_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever AIPC_DISABLE says: for tests of what it switches off."""
    monkeypatch.delenv("AIPC_DISABLE", raising=False)
    _forget_features()
    yield
    _forget_features()


def _forget_features() -> None:
    probes.enabled.cache_clear()
    membarrier.registered.cache_clear()
