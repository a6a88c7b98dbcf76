"""Signals: Ctrl-C while a line is awaited, SIGUSR1 from another program, SIGTERM for a child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from ..peers import said, tell
from .conftest import Compile, Start, output

Pair = tuple[Start, Start]


@pytest.fixture
def signals(in_c: Start) -> Start:
    """The C programs with signals are one file."""

    def start(name: str, *arguments: str) -> object:
        return in_c("signals", *arguments)

    return start  # type: ignore[return-value]


@pytest.fixture(params=["c-python", "python-c"])
def both(request: pytest.FixtureRequest, signals: Start, in_python: Start) -> Pair:
    return (signals, in_python) if request.param == "c-python" else (in_python, signals)


@pytest.mark.parametrize("language", ["c", "python"])
def test_sigint(language: str, signals: Start, in_python: Start) -> None:
    """The line is awaited on, as SA_RESTART has it."""
    start = signals if language == "c" else in_python
    with start("sigint", "sigint") as program:
        assert said(program) == "Enter a string:"
        for _ in range(2):
            os.kill(program.pid, signal.SIGINT)
            assert said(program) == "Ahhh! SIGINT!"
        tell(program, "still here")
        assert said(program) == 'You entered: "still here"'
        assert program.wait(30) == 0


def test_sigusr(both: Pair) -> None:
    work, send = both
    with work("sigusr", "worker") as worker:
        assert said(worker) == f"process {worker.pid} is working"
        output(send("sigusr", "sender", str(worker.pid)))
        assert said(worker) == "Done in by SIGUSR1!"
        assert worker.wait(30) == 0


def test_shutdown(in_python: Start, signals: Start, compiled: Compile, python_words: Callable[..., list[str]]) -> None:
    told = ["child: working", "child: got SIGTERM, cleaning up", "parent: the child ended with 0"]
    parent = partial(in_python, "graceful_shutdown", "parent")
    assert output(parent(compiled("signals"), "child")).splitlines() == told
    words = python_words("graceful_shutdown", "child")
    assert output(signals("graceful_shutdown", "parent", *words)).splitlines() == told
