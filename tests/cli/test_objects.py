"""`aipc list`, `aipc remove`, `aipc lock`, and what all commands have in common."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.cli import table
from aipc.cli.machine import top
from tests import peers

from ..objects.test_inspect import eventually, holding, made
from ..subjects import new_name
from .runs import run, started, wait_listening


def listed(*arguments: str) -> dict[str, dict[str, object]]:
    status, printed = run("list", "--json", *arguments)
    assert status == 0, printed
    return {row["object"]: row for row in json.loads(printed)}


def test_every_listed_name_can_be_removed(place: Path, key: str) -> None:
    name = f"/aipc-cli-{os.getpid()}"
    os.mkfifo(place / "fifo")
    with (
        aipc.SysVSharedMemory.create(key, 5000),
        aipc.SysVSharedMemory.create(None, 6000, unlink=False) as private,
        aipc.SharedMemory.create(name, 100),
        socket.socket(socket.AF_UNIX) as stale,
    ):
        stale.bind(f"{place}/socket")
        names = [f"sysv-shm:{key}", f"sysv-shm#{private.id}", f"posix-shm:{name}", f"fifo:{place}/fifo", f"unix:{place}/socket"]
        rows = listed(str(place))
        holds = [os.getpid() in rows[one]["holders"] for one in names]  # with a forked child, which has what its parent had
        assert holds == [True, True, True, False, True]
        status, printed = run("list", str(place))
        assert status == 0
        words = [line.split()[0] for line in printed.splitlines()]
        assert set(names) <= set(words)  # each whole, without a terminal
        assert run("remove", *names)[0] == 1  # a live process has the socket
        assert not {names[0], *names[2:4]} & set(listed(str(place)))
    assert names[1] not in listed()
    assert run("remove", "--stale", "--yes", str(place)) == (0, f"removed unix:{place}/socket\n")
    assert run("remove", names[0])[0] == 3


def test_remove_by_kind_and_number_and_by_url(place: Path, key: str) -> None:
    run("send", f"sysv-mq:{key}?create=1", "x")
    shown = json.loads(run("inspect", "--json", f"sysv-mq:{key}")[1])
    assert re.search(r"last send      20\d\d-\d\d-\d\d \d\d:\d\d:\d\d, \d+ seconds? ago\n", run("inspect", f"sysv-mq:{key}")[1])
    assert (shown["state"]["messages"], shown["state"]["bytes"]) == (1, 1)
    number = str(listed()[f"sysv-mq:{key}"]["id"])
    assert run("remove", "-y", "sysv-mq", number) == (0, f"removed sysv-mq:{key}\n")
    assert run("inspect", f"sysv-mq:{key}")[0] == 3
    run("send", f"sysv-mq:{place}?project=7&create=1", "x")
    assert run("remove", "-y", f"sysv-mq:{place}?project=7")[0] == 0
    status, printed = run("remove", "-y", f"flock:{place}/lock")
    assert status == 2
    assert "stays" in printed


def test_a_primitive_is_called_by_its_path(place: Path) -> None:
    async def look() -> None:
        async with aipc.Event(f"{place}/ready"), aipc.Barrier(f"{place}/start", parties=2):
            names = await anyio.to_thread.run_sync(listed)
            assert names[f"event:{place}/ready"]["kind"] == "sysv-sem"
            assert f"barrier:{place}/start" in names
            assert await anyio.to_thread.run_sync(run, "remove", "-y", f"barrier:{place}/start") == (
                0,
                f"removed barrier:{place}/start\n",
            )

    anyio.run(look)
    assert run("remove", "-y", f"event:{place}/ready")[0] == 0


def test_doctor_finds_what_is_missing() -> None:
    status, printed = run("doctor", "--json")
    findings = {row["name"]: row for row in json.loads(printed)}
    assert findings["kernel.msgmax"]["value"] == Path("/proc/sys/kernel/msgmax").read_text().strip()
    assert findings["pidfd_open"]["good"] is True
    assert status == (1 if any(row["good"] is False for row in findings.values()) else 0)
    _, shown = run("doctor")
    assert all(name in shown for name in findings)
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_a_narrow_terminal_cuts_no_name() -> None:
    rows = [("unix:/" + "long" * 12, "1", "user", "10 messages"), ("fifo:/a", "2", "user", "")]
    wide = [*table.lines(("OBJECT", "ID", "OWNER", "FILL"), rows, ("ID",), None)]
    assert wide[1].split("  ")[0] == rows[0][0]
    narrow = [*table.lines(("OBJECT", "ID", "OWNER", "FILL"), rows, ("ID",), 60)]
    assert narrow[1] == rows[0][0]
    assert narrow[2].split() == ["1", "user", "10", "messages"]
    assert narrow[3].startswith("fifo:/a   2")  # this one has room


def test_lock_runs_a_command(place: Path) -> None:
    url = f"flock:{place}/lock"
    assert run("lock", url, "--", "sh", "-c", "echo held; exit 5") == (5, "held\n")
    assert run("lock", url, "--", "sh", "-c", "kill -9 $$")[0] == 128 + signal.SIGKILL
    assert run("lock", url, "--", "sh", "-c", "kill -INT $$") == (-signal.SIGINT, "")
    assert run("lock", url, "--", f"{place}/none")[0] == 127
    with started("lock", url, "--", "sh", "-c", "echo held; exec sleep 60") as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        found = aipc.inspect(url)
        assert [process.pid for process in found.holders] == [holding.pid]
        assert "held by" in run("inspect", url)[1]
        status, printed = run("lock", "-n", "-E", "9", url, "--", "true")
        assert (status, printed) == (9, f"aipc: {url}: held by process {holding.pid}\n")
        assert run("lock", "-w", "0.01", url, "--", "true")[0] == 1
        holding.terminate()  # goes on to the command: the lock is not free before that has ended
        assert holding.wait() == 128 + signal.SIGTERM
    assert run("lock", "-n", url, "--", "true") == (0, "")


def test_errors_are_one_line_and_have_their_status(place: Path) -> None:
    for status, arguments in {
        2: ("send", f"unix:{place}/s?no_such_option=1", "x"),
        3: ("send", f"unix:{place}/s", "x"),
    }.items():
        ended, printed = run(*arguments)
        assert ended == status
        assert printed.startswith("aipc: ")
        assert printed.count("\n") == 1
    assert run("nonsense")[0] == 2
    assert run("--version") == (0, f"aipc {aipc.__version__}\n")
    status, printed = run()
    assert status == 2
    assert all(len(line) <= 80 and not line.endswith("...") for line in printed.splitlines()[1:])


@pytest.mark.usefixtures("all_features")
def test_top_names_what_is_wrong(place: Path, key: str) -> None:
    one, two = f"flock:{place}/lock", f"sysv-sem:{key}"
    with made(two), holding(one, two) as first, holding(two, one) as second:
        for process in (first, second):
            peers.tell(process, "")
        eventually(one, lambda found: found.waiters)
        eventually(two, lambda found: found.waiters)
        status, printed = run("top")
        assert status == 0
        lines = printed.splitlines()
        waiting = re.search(r"(\d+) waiting processes", lines[0])
        assert waiting  # another program's processes may wait, too
        assert int(waiting[1]) >= 2
        assert any(line.startswith("! deadlock: process ") and f"held by {first.pid}" in line for line in lines)
        rows = {line.split()[0]: line.split()[1:] for line in lines if not line.startswith("!")}
        assert rows[one][:2] == [str(first.pid), str(second.pid)]
        assert rows[two][:2] == [str(second.pid), str(first.pid)]
        assert "deadlock: " in run("inspect", one, two)[1]
        looks = [json.loads(line) for line in run("top", "--json", "-n", "2", "-i", "0.1", two)[1].splitlines()]
        assert [look[0]["holders"][0]["pid"] for look in looks] == [second.pid] * 2
    status, printed = run("top", f"flock:{place}/none")
    assert (status, printed.splitlines()[1]) == (0, f"! flock:{place}/none: there is no such object")


def test_inspect_json_of_connections(place: Path) -> None:
    with started("listen", f"unix:{place}/socket") as listening:
        wait_listening(place / "socket")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{place}/socket")
            eventually(f"unix:{place}/socket", lambda found: found.connections and found.connections[0].server)
            row = json.loads(run("inspect", "--json", f"unix:{place}/socket")[1])
            assert [end["pid"] for end in (row["connections"][0]["server"], row["holders"][0])] == [listening.pid] * 2
            assert f"connection     {listening.pid} and {os.getpid()}" in run("inspect", f"unix:{place}/socket")[1]


def test_a_screen_is_never_overfull() -> None:
    lines = ["head", "x" * 25, "one", "two", "three"]
    assert top.fitting(lines, 10, 7) == lines
    assert top.fitting(lines, 10, 6) == [*lines[:3], "and 2 line"]
    assert top.fitting(lines, 30, 3) == [*lines[:2], "and 3 lines more"]


def test_top_names_each_cause(place: Path, key: str) -> None:
    leftover, queue, socket_ = f"sysv-sem:{key}?undo=0", f"posix-mq:{new_name()}", f"unix:{place}/socket"

    async def make() -> None:
        async with (
            aipc.open_channel(queue, create=True, unlink=True, max_messages=1) as full,
            aipc.listen(socket_) as listener,
            aipc.open_channel(socket_),
            await listener.accept() as writer,
        ):
            await full.send(b"one")
            fill(writer)
            status, printed = await anyio.to_thread.run_sync(run, "top", leftover, queue, socket_)
            assert status == 0
            lines = printed.splitlines()
            assert any(line.startswith(f"! {leftover}: its value is 0, and process {holder.pid}") for line in lines)
            assert f"! {queue}: full: nobody receives" in lines
            assert any(f"! {socket_}: process {os.getpid()} does not read" in line for line in lines)

    with made(leftover), holding(leftover) as holder:
        holder.kill()
        holder.wait()
        anyio.run(make)


def fill(channel: aipc.Channel) -> None:
    with suppress(anyio.WouldBlock):
        while True:
            channel.send_nowait(bytes(10_000))


def test_top_goes_on_after_what_cannot_be_inspected() -> None:
    name = new_name()
    path = Path(f"/dev/shm/sem.{name[1:]}")
    path.write_bytes(b"short")
    try:
        status, printed = run("top")
        assert status == 0
        assert f"! posix-sem:{name}: the file in /dev/shm is not a semaphore" in printed
        assert run("inspect", f"posix-sem:{name}")[0] == 1
    finally:
        path.unlink()
