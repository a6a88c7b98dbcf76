from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers import compile_peer, process, python, said
from tests.subjects import drop_signals

from . import FLAG, PRELUDE


@pytest.fixture(autouse=True)
def _all_as_before() -> Iterator[None]:
    """Masks, and handlers of Python and of C, are as they were. (33 is the C library's own, from its first thread on.)"""

    def state() -> list[object]:
        lines = re.findall("^Sig[^Q].*", Path("/proc/self/status").read_text(), re.MULTILINE)
        lines = [(line[:6], int(line.split()[1], 16) & ~(1 << 32)) for line in lines]
        return [lines, [signal.getsignal(signum) for signum in sorted(signal.valid_signals())]]

    before = state()
    yield
    drop_signals()
    assert state() == before


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("signals", tmp_path_factory))


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """What an ordinary handler of SIGUSR1 and SIGUSR2 saw."""
    seen: list[int] = []
    before = {signum: signal.signal(signum, lambda number, _: seen.append(number)) for signum in (signal.SIGUSR1, FLAG)}
    yield seen
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def loop(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    return "uvloop" if anyio_backend[1] else anyio_backend[0]


@pytest.fixture
def alone(loop: str) -> Callable[..., None]:
    """Runs `async def function()` in a process of its own, with no signal blocked; it must end well."""

    def run_alone(code: str, *, interpreter: bool = False) -> None:
        code = f"{PRELUDE}signal.alarm(60)\nsignal.pthread_sigmask(signal.SIG_SETMASK, [])\n{code}\nmain(function)\n"
        with process(sys.executable, "-c", code, loop) if interpreter else python(code, loop) as child:
            assert said(child) == "ok"

    return run_alone
