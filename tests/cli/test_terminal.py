"""Each command's example on a terminal of 80 and of 120 columns: what it shows, its status, and what Ctrl-C does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from aipc._sys import probes
from tests import peers

from ..objects.test_inspect import eventually, holding, made, taking
from ..subjects import new_name
from .runs import run, wait_listening
from .terminal import ROWS, Terminal, terminal
from .test_examples import EXAMPLES, NEEDS, PRINTS

NARROW = pytest.mark.parametrize("window", [80], indirect=True)
WAIT = ("cat", "listen", "receive", "subscribe")
"""Examples that run until the user or another program ends them."""
TABLES = ("doctor", "inspect", "jobs list", "list", "top")
"""The only ones that use more than 80 columns where there are more."""


@pytest.fixture(scope="module", params=[80, 120])
def window(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with terminal(tmp_path_factory.mktemp("terminal") / "tmux", request.param) as opened:
        yield opened


@pytest.fixture
def screen(window: Terminal) -> Iterator[Terminal]:
    yield window
    if window.busy:  # a test has failed
        window.press("C-\\")
        window.wait_ready()


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose name leaves room for more on a row."""
    return tmp_path_factory.mktemp("t")


def example(name: str, place: Path) -> str:
    return EXAMPLES[name].replace("/tmp/", f"{place}/")


def shown(screen: Terminal, name: str, place: Path) -> None:
    with NEEDS.get(name, lambda _: nullcontext())(place):
        status, rows = screen.run(example(name, place))
    assert status in ((0, 1) if name == "doctor" else (0,)), rows
    assert PRINTS.get(name, "").strip() in "\n".join(rows)
    assert name in ("doctor", "list", "top") or not screen.wrapped, rows  # JSON, and names of other programs


@pytest.mark.parametrize("name", TABLES)
def test_a_table(screen: Terminal, name: str, place: Path) -> None:
    shown(screen, name, place)


@NARROW
@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {*WAIT, *TABLES}))
def test_an_example(screen: Terminal, name: str, place: Path) -> None:
    shown(screen, name, place)


@NARROW
def test_the_example_of_cat(screen: Terminal, place: Path) -> None:
    with NEEDS["cat"](place):
        screen.type(example("cat", place))
        screen.type("typed")
        screen.press("C-d")
        status, rows = screen.ended()
        assert (status, rows[-1]) == (0, "TYPED")
        screen.type(example("cat", place))
        eventually(f"unix:{place}/aipc.sock", lambda found: found.connections)
        interrupted(screen)


def interrupted(screen: Terminal, last: str = "") -> None:
    """Ctrl-C ends the command by the signal, and it says nothing of that after the last row."""
    screen.press("C-c")
    status, rows = screen.ended()
    assert status == 128 + signal.SIGINT, rows
    assert "".join(rows[-2:]).endswith(f"{last}^C"), rows
    assert "Traceback" not in "\n".join(rows)


@NARROW
def test_the_example_of_listen(screen: Terminal, place: Path) -> None:
    screen.type(example("listen", place))
    wait_listening(place / "aipc.sock")
    assert run("cat", f"unix:{place}/aipc.sock", text="typed\n") == (0, "TYPED\n")
    interrupted(screen)
    assert not (place / "aipc.sock").exists()


@NARROW
def test_the_example_of_subscribe(screen: Terminal, place: Path) -> None:
    screen.type(example("subscribe", place))
    assert run("publish", f"unix:{place}/aipc.topics", "eur.usd", "1.08")[0] == 0
    screen.wait_row("eur.usd 1.08")
    interrupted(screen, "eur.usd 1.08")


@NARROW
def test_the_example_of_receive(screen: Terminal) -> None:
    name = new_name()
    command = EXAMPLES["receive"].replace("/aipc-example", name)
    assert run("send", f"posix-mq:{name}?create=1", "hello")[0] == 0
    try:
        assert screen.run(command) == (0, ["hello"])
        screen.type(command)
        eventually(f"posix-mq:{name}", lambda found: found.users)
        interrupted(screen)
    finally:
        run("remove", "--yes", f"posix-mq:{name}")


@NARROW
def test_lock_and_top_are_interrupted(screen: Terminal, place: Path) -> None:
    url = f"flock:{place}/lock"
    screen.type(f"aipc lock {url} -- sh -c 'echo held; exec sleep 60'")
    screen.wait_row("held")
    interrupted(screen, "held")
    with holding(url) as holder:
        status, rows = screen.run(f"aipc lock -n {url} -- true")
        assert (status, "".join(rows).replace(" ", "")) == (1, f"aipc:{url}:heldbyprocess{holder.pid}")  # a long path wraps
        if probes.enabled("doorbell"):  # without it nobody sees who waits
            screen.type(f"aipc lock {url} -- true")
            eventually(url, lambda found: found.waiters)
            interrupted(screen)
        screen.type(f"aipc top -i 60 {url}")
        interrupted(screen, screen.wait_row(url)[-1])


@NARROW
def test_remove_asks(screen: Terminal, place: Path) -> None:
    os.mkfifo(place / "fifo")
    screen.type(f"aipc remove fifo:{place}/fifo")
    screen.wait_row("Remove fifo:")
    screen.type("n")
    assert screen.ended()[0] == 1
    assert (place / "fifo").exists()


@NARROW
def test_top_shows_what_fits(screen: Terminal, place: Path) -> None:
    screen.type(f"aipc top -i 0.1 {' '.join(f'fifo:{place}/{number}' for number in range(ROWS))}")
    rows = screen.wait_row("and ")
    assert rows[0].endswith(f"{ROWS} objects, 0 waiting processes, {ROWS} findings")
    assert len(rows) == ROWS
    interrupted(screen)


@pytest.mark.usefixtures("all_features")
def test_no_name_is_cut(screen: Terminal, place: Path, key: str) -> None:
    """With two locks on which two processes block each other, and more that wait: sentences and tables of several rows."""
    one, two, fifo = f"flock:{place}/lock", f"sysv-sem:{key}", f"fifo:{place}/{'f' * 20}"
    os.mkfifo(fifo.removeprefix("fifo:"))
    with ExitStack() as stack:
        stack.enter_context(made(two))
        first, second = stack.enter_context(holding(one, two)), stack.enter_context(holding(two, one))
        others = [stack.enter_context(taking(one)) for _ in range(4)]
        for process in (first, second):
            peers.tell(process, "")
        pids = {second.pid, *(process.pid for process in others)}
        eventually(one, lambda found: pids <= {process.pid for process in found.waiters})
        eventually(two, lambda found: found.waiters)
        for command, names in (
            (f"list {place}", (two, fifo)),
            (f"top -n 1 {one} {two}", (one, two)),
            (f"inspect {one} {two}", (one, two, *map(str, pids))),
        ):
            status, rows = screen.run(f"aipc {command}")
            assert status == 0
            assert command.startswith("list") or not screen.wrapped, rows
            words = {word.strip(":,;") for row in rows for word in row.split()}
            assert {*names} <= words, rows
            assert command.startswith("list") or any("deadlock: process" in row for row in rows)
