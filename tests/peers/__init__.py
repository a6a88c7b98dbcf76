"""The other end: processes that know nothing of aipc, or run it under conditions that a test can't have itself."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from .forked import Forked
from .template import Template

Peer = subprocess.Popen[str] | Forked
PROGRAMS = Path(__file__).parent
_GIVE_UP = "import signal; signal.alarm(60)\n"


def give_up(reason: str) -> NoReturn:
    """What this test takes is missing: it is skipped; where AIPC_TESTS_REQUIRE=all, as in CI, it fails."""
    if os.environ.get("AIPC_TESTS_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)


def require(tool: str) -> None:
    """`give_up` without the tool."""
    if not os.path.isfile(tool) and shutil.which(tool) is None:  # which(1) asks as the real user, who may be another one here
        give_up(f"{tool} is not installed")


def compile_peer(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program `name`.c of the directory `c`, or of another one here, compiled."""
    program = tmp_path_factory.mktemp("peers") / Path(name).name
    source = PROGRAMS / (f"{name}.c" if "/" in name else f"c/{name}.c")
    run("cc", "-Wall", "-Werror", "-o", str(program), str(source))
    return program


def run(*command: str) -> str:
    """What `command` prints; it must succeed."""
    require(command[0])
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stderr}"
    return done.stdout


def isolated(code: str, *more: str) -> str:
    """What the Python `code` prints as root of user, mount, IPC and network namespaces of its own: it may mount, no network is up.

    `more` are further options of unshare(1). Where that is forbidden, the same as for a missing tool (`require`).
    """
    namespaces = ("--user", "--map-root-user", "--mount", "--ipc", "--net", *more)
    inside = unshared(*namespaces, probe=("mount", "-t", "tmpfs", "none", "/mnt"))
    return run(*inside, sys.executable, "-c", _GIVE_UP + code)


def unshared(*namespaces: str, probe: tuple[str, ...] = ("true",)) -> tuple[str, ...]:
    """What to put before a command to run it in namespaces of its own (unshare(1)). `probe` tells whether that is permitted."""
    require("unshare")
    command = ("unshare", *namespaces)
    if subprocess.run([*command, *probe], check=False, capture_output=True, timeout=60).returncode:
        give_up("this user may not do that in a namespace of its own")
    return command


@contextmanager
def process(*command: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process to talk to by lines; killed and reaped with the block, if it has not ended."""
    require(command[0])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def python(code: str, *arguments: str, cwd: Path | None = None) -> Iterator[Peer]:
    """A Python process that runs `code`, as by `process`; it dies after a minute, so that no test waits for ever.

    The template forks it, unless this process's conditions, such as its limits, are other ones now than the template's.
    """
    template = the_template()
    if not template.suits():
        with process(sys.executable, "-c", _GIVE_UP + code, *arguments, cwd=cwd) as running:
            yield running
        return
    with closing(Forked(template, _GIVE_UP + code, arguments, cwd)) as forked:
        try:
            yield forked
        finally:
            forked.kill()


LASTING: set[int] = set()
"""Child processes that live as long as this one: no test has left them behind."""


@cache
def the_template() -> Template:
    """One for this process, ended with it."""
    template = Template()
    LASTING.add(template.pid)
    atexit.register(template.close)
    return template


def wait_ended(running: Peer) -> None:
    """It is a zombie then, until it is waited for."""
    pidfd = os.pidfd_open(running.pid)
    try:
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)


def tell(running: Peer, line: str) -> None:
    """Write a line to its standard input."""
    assert running.stdin is not None
    running.stdin.write(line + "\n")
    running.stdin.flush()


def said(running: Peer) -> str:
    """The next line that it prints; empty if it has ended."""
    assert running.stdout is not None
    return running.stdout.readline().rstrip("\n")
