"""Each command's help has an example, and it works. The names of objects in it are exchanged for the test's own."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from aipc.cli.commands import app
from aipc.cli.jobs import jobs

from .. import peers
from ..subjects import new_name
from .runs import run, started, wait_listening

EXAMPLES = {
    " ".join(shlex.split(one.epilog.removeprefix("Example: "))[1 : 2 + deep]): one.epilog.removeprefix("Example: ")
    for commands, deep in ((app.registered_commands, 0), (jobs.registered_commands, 1))
    for one in commands
    if one.epilog
}

SERVE = """
import sys
import anyio
import aipc
from aipc import rpc

router = rpc.Router()

@router.method
async def add(a: int, b: int) -> int:
    return a + b

async def main(url):
    async with aipc.listen(url) as listener:
        await rpc.serve(listener, router)

anyio.run(main, sys.argv[1])
"""


@contextmanager
def listener(place: Path, *command: str) -> Iterator[None]:
    with started("listen", f"unix:{place}/aipc.sock", *command):
        wait_listening(place / "aipc.sock")
        yield


@contextmanager
def service(place: Path) -> Iterator[None]:
    with peers.python(SERVE, f"unix:{place}/aipc.sock"):
        wait_listening(place / "aipc.sock")
        yield


@contextmanager
def jobs_queue(place: Path) -> Iterator[None]:
    assert run("send", f"jobs:{place}/aipc.jobs?create=1", "one")[0] == 0
    yield


@contextmanager
def lock_file(place: Path) -> Iterator[None]:
    (place / "aipc.lock").touch()
    yield


@contextmanager
def fifo(place: Path) -> Iterator[None]:
    os.mkfifo(place / "aipc.fifo")
    yield


NEEDS: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "remove": fifo,
    "send": listener,
    "cat": lambda place: listener(place, "--", "tr", "a-z", "A-Z"),
    "call": service,
    "inspect": lock_file,
    "jobs list": jobs_queue,
    "jobs retry": jobs_queue,
    "jobs purge": jobs_queue,
}
"""What an example needs to be there."""
PRINTS = {
    "remove": "removed fifo:",
    "cat": "TYPED\n",
    "lock": "alone\n",
    "call": "3\n",
    "inspect": "options",
    "jobs list": "1 ready",
    "jobs retry": "0 jobs",
    "jobs purge": "removed 0 jobs",
    "tour": "1 of 1 ok",
    "top": "finding",
    "doctor": '"name"',
    "bench": "asyncio streams",
}
WAITS = {
    "listen": ("send", "unix:{place}/aipc.sock", "typed"),
    "subscribe": ("publish", "unix:{place}/aipc.topics", "eur.usd", "1.08"),
}
"""Examples that run until they are ended, and what to do meanwhile."""


def words(example: str, place: Path, name: str) -> list[str]:
    return shlex.split(example.replace("/tmp/", f"{place}/").replace("/aipc-example", name))[1:]


def test_every_command_has_an_example() -> None:
    assert {*NEEDS, *PRINTS, *WAITS} <= {*EXAMPLES}
    assert len(EXAMPLES) == len(app.registered_commands) + len(jobs.registered_commands)


@pytest.mark.parametrize("name", ["", "jobs", *EXAMPLES])
def test_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ending:
        app([*name.split(), "--help"])
    assert ending.value.code == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Usage: aipc {name}".rstrip())
    assert "[[" not in first
    assert name in ("", "jobs") or last.strip() == f"Example: {EXAMPLES[name]}"


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {*WAITS} - {"receive"}))
def test_an_example(name: str, place: Path) -> None:
    with NEEDS.get(name, lambda _: nullcontext())(place):
        status, printed = run(*words(EXAMPLES[name], place, ""), text="typed\n")
    assert status in ((0, 1) if name == "doctor" else (0,)), printed
    assert PRINTS.get(name, "") in printed


@pytest.mark.parametrize("name", WAITS)
def test_an_example_that_waits(name: str, place: Path) -> None:
    with started(*words(EXAMPLES[name], place, "")) as running:
        if name == "listen":
            wait_listening(place / "aipc.sock")
            assert run("cat", f"unix:{place}/aipc.sock", text="typed\n") == (0, "TYPED\n")
        else:
            assert run(*(word.format(place=place) for word in WAITS[name]))[0] == 0
            assert peers.said(running) == "eur.usd 1.08"


def test_the_example_of_receive() -> None:
    name = new_name()
    with started(*words(EXAMPLES["receive"], Path(), name)) as running:
        deadline = time.monotonic() + 30
        while run("send", f"posix-mq:{name}", "hello")[0] != 0:
            assert time.monotonic() < deadline
        assert peers.said(running) == "hello"
        assert running.wait() == 0
    assert run("remove", "--yes", f"posix-mq:{name}") == (0, f"removed posix-mq:{name}\n")
    assert run("remove", "--yes", f"posix-mq:{name}")[0] == 3


def test_bench_tells_ratios_and_what_failed() -> None:
    status, printed = run("bench", "--only", "pipe", "--count", "100", "--json")
    first, pipe, last = json.loads(printed)
    assert (status, first["mechanism"], last["mechanism"]) == (0, "asyncio streams", "asyncio streams")
    assert pipe["ratio"] == pytest.approx(2 * pipe["p50"] / (first["p50"] + last["p50"]))
    assert pipe["p50"] <= pipe["p99"]
    assert pipe["verdict"] == "ok"
    assert run("bench", "--only", "nothing")[0] == 2
