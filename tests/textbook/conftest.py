"""Start a half of a textbook's program: in C, or the example, which does the same with aipc."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import pytest

from ..peers import PROGRAMS, Peer, compile_peer, process, python

EXAMPLES = Path(__file__).parents[2] / "examples" / "textbook"
RUN = """
import functools, json, runpy, sys, anyio
backend, options = json.loads(sys.argv[1])
anyio.run = functools.partial(anyio.run, backend=backend, backend_options=options)
sys.stdout.reconfigure(line_buffering=True)
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""An example, on the loop of the test."""

Compile = Callable[[str], str]
Start = Callable[..., AbstractContextManager[Peer]]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """The path of a C program of tests/peers/textbook, which is compiled once."""

    @cache
    def compiled(name: str) -> str:
        (source,) = (PROGRAMS / "textbook").rglob(f"{name}.c")
        return str(compile_peer(str(source.relative_to(PROGRAMS).with_suffix("")), tmp_path_factory))

    return compiled


@pytest.fixture
def python_words(anyio_backend: object) -> Callable[..., list[str]]:
    """The command that runs an example with these arguments on the test's loop, for another program to start."""
    return lambda name, *arguments: [
        sys.executable, "-c", RUN, json.dumps(anyio_backend), str(EXAMPLES / f"{name}.py"), *arguments,
    ]  # fmt: skip


@pytest.fixture
def in_c(compiled: Compile, place: Path) -> Start:
    """`in_c(name, *arguments)` runs the C program in the test's directory."""
    return lambda name, *arguments: process(compiled(name), *arguments, cwd=place)


@pytest.fixture
def in_python(anyio_backend: object, place: Path) -> Start:
    """`in_python(name, *arguments)` runs the example likewise."""
    return lambda name, *arguments: python(RUN, json.dumps(anyio_backend), str(EXAMPLES / f"{name}.py"), *arguments, cwd=place)


@pytest.fixture(params=["c-python", "python-c"])
def pair(request: pytest.FixtureRequest, in_c: Start, in_python: Start) -> tuple[Start, Start]:
    """What starts the one half, and what starts the other: one of them is in C."""
    return (in_c, in_python) if request.param == "c-python" else (in_python, in_c)


@pytest.fixture(params=["c", "python"])
def either(request: pytest.FixtureRequest, in_c: Start, in_python: Start) -> Start:
    """For a program without another half: both print the same."""
    return in_c if request.param == "c" else in_python


def output(started: AbstractContextManager[Peer], text: str = "", *, status: int = 0) -> str:
    """All that a program prints, given `text` as its input; it must end by itself, with `status`."""
    with started as running:
        printed, _ = running.communicate(text, timeout=30)
    assert running.returncode == status
    return str(printed)
