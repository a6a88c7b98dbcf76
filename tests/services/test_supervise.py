"""Supervised programs: started in order, restarted, told of signals, stopped in order; no process is left."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.testing.expect import until

from ..processes.conftest import children
from ..subjects.counts import times

pytestmark = pytest.mark.anyio
ME = os.getpid()
STAY = "sleep 60 & wait"  # a shell runs a trap only after the command that it waits for
NOTIFIES = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET']); "


def shell(name: str, script: str, **options: object) -> aipc.Program:
    return aipc.Program(name, script, shell=True, **options)


def python(name: str, script: str, **options: object) -> aipc.Program:
    return aipc.Program(name, [sys.executable, "-S", "-c", script], **options)


def logging_to(path: Path, name: str) -> str:
    """Log the start, and the end by SIGTERM. No shell: in one that forks, SIGTERM may be lost."""
    return (
        "import signal, sys\n"
        f"log = open({str(path)!r}, 'a', 1)\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (log.write('no-{name}\\n'), sys.exit(0)))\n"
        f"log.write('{name}\\n')"
    )


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    assert children() == []
    yield
    assert children() == []


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def number_in(path: Path) -> int:
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


async def test_started_and_stopped_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ready = "import time; time.sleep(0.05); s.send(b'STATUS=at work\\nREADY=1')"
    programs = [
        python("first", f"{logging_to(log, 'first')}\n{NOTIFIES}{ready}\nsignal.pause()", notify=True),
        python("second", f"{logging_to(log, 'second')}\nsignal.pause()"),
        python("third", f"{logging_to(log, 'third')}\nsignal.pause()"),
    ]
    with anyio.fail_after(60):
        async with aipc.supervise(programs) as supervisor:
            await supervisor.wait_ready()
            assert [one.state for one in supervisor.status().values()] == ["running"] * 3
            assert supervisor.status()["first"].text == "at work"
            await until(lambda: log.read_text().count("\n") == 3)
    told = log.read_text().split()
    assert told[0] == "first"
    assert told[3:] == ["no-third", "no-second", "no-first"]
    assert [one.state for one in supervisor.status().values()] == ["ended"] * 3
    assert (supervisor.forced, supervisor.exit_code) == (False, 0)


@pytest.mark.parametrize(
    ("restart", "status", "again"),
    [("always", 0, True), ("always", 3, True), ("on-failure", 0, False), ("on-failure", 3, True), ("never", 3, False)],
)
async def test_policies(restart: str, status: int, again: bool) -> None:
    with anyio.fail_after(60):
        async with aipc.supervise([shell("one", f"exit {status}", restart=restart, backoff=0.001)]) as supervisor:
            if again:
                await until(lambda: supervisor.status()["one"].restarts >= 3)
            else:
                await supervisor.wait()
                assert supervisor.status()["one"].state == ("failed" if status else "ended")
            assert supervisor.status()["one"].outcome == f"exit status {status}"
    assert again or supervisor.status()["one"].restarts == 0


async def test_given_up_after_restarts_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(60):
        assert await aipc.supervise([shell("one", "exit 1", backoff=0.001, max_restarts=2)]) == 1
        assert await aipc.supervise([shell("one", "exit 0", restart="never")]) == 0
    assert caplog.text.count("program one ended: exit status 1") == 3
    assert "given up after 2 restarts" in caplog.text


async def test_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    async with aipc.supervise([shell("one", "exit 1", backoff=3_600, backoff_limit=7_200)]) as supervisor:
        await until(lambda: supervisor.status()["one"].state == "pausing" and supervisor.status()["one"].restarts == 1)
        supervisor.restart("one")
        await until(lambda: caplog.text.count("exit status 1") == 3)
        assert supervisor.status()["one"].restarts == 1


async def test_the_next_one_waits_for_readiness(tmp_path: Path) -> None:
    mark, never = tmp_path / "mark", "import signal; signal.pause()"
    programs = [python("never", never, notify=True), shell("next", f"echo x > {mark}; {STAY}")]
    async with aipc.supervise(programs) as supervisor:
        await until(lambda: supervisor.status()["never"].state == "starting")
        with anyio.move_on_after(0.05) as scope:
            await supervisor.wait_ready()
        assert scope.cancelled_caught
        assert supervisor.status()["next"].state == "waiting"
    assert not mark.exists()


async def test_readiness_that_does_not_come() -> None:
    program = python("late", "import signal; signal.pause()", notify=True, ready_within=0.05, restart="never")
    with anyio.fail_after(60):
        async with aipc.supervise([program]) as supervisor:
            with pytest.raises(aipc.ProgramFailed, match="program late ended before it was ready: killed by SIGTERM"):
                await supervisor.wait_ready()
            await supervisor.wait()
    assert supervisor.exit_code == 1


async def test_a_program_that_does_not_exist() -> None:
    with anyio.fail_after(60):
        async with aipc.supervise([aipc.Program("none", ["/no/such/program"], backoff=0.001)]) as supervisor:
            with pytest.raises(aipc.ProgramFailed, match="/no/such/program"):
                await supervisor.wait_ready()
            await until(lambda: supervisor.status()["none"].restarts > 2)


async def test_lines(caplog: pytest.LogCaptureFixture) -> None:
    lines: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    async def note(line: aipc.ProgramLine) -> None:
        await anyio.sleep(0)
        lines[line.stream].append(line.text)
        if line.text == b"two":
            raise ValueError("not this one")

    script = "echo one; echo two; echo; echo error >&2; head -c 70000 /dev/zero; echo; printf last"
    with anyio.fail_after(60):
        assert await aipc.supervise([shell("one", script, restart="never")], on_line=note) == 0
    assert lines == {"stdout": [b"one", b"two", b"", bytes(65_536), bytes(70_000 - 65_536), b"last"], "stderr": [b"error"]}
    assert "not this one" in caplog.text


async def test_a_stray_holder_of_its_output_keeps_nobody(tmp_path: Path) -> None:
    """A grandchild that has left the group."""
    place, lines = tmp_path / "pid", []
    program = shell(
        "one",
        f"echo x; setsid sh -c 'echo $$ > {place}; exec sleep 60' & while [ ! -s {place} ]; do sleep 0.01; done",
        restart="never",
    )
    with anyio.fail_after(60):
        await aipc.supervise([program], on_line=lambda line: lines.append(line.text))
    assert lines == [b"x"]
    os.kill(await number_in(place), signal.SIGKILL)


async def test_signals(tmp_path: Path) -> None:
    """SIGHUP goes on to the programs; SIGTERM stops."""
    log = tmp_path / "log"
    program = shell("one", f"trap 'echo hup >> {log}' HUP; echo up >> {log}; while :; do {STAY}; done")
    with anyio.fail_after(60):
        async with aipc.supervise([program]) as supervisor:
            await until(lambda: log.exists() and log.read_text() == "up\n")
            os.kill(ME, signal.SIGHUP)
            await until(lambda: log.read_text() == "up\nhup\n")
            os.kill(ME, signal.SIGTERM)
            await supervisor.wait()
            assert supervisor.is_stopping
    assert supervisor.status()["one"].outcome == "killed by SIGTERM"


@pytest.mark.parametrize("how", ["a second signal", "its limit", "the program's grace"])
async def test_stubborn_programs_are_killed(how: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    grace = 0.05 if how == "the program's grace" else 3_600
    stubborn = shell(
        "stubborn", f"trap '' TERM INT; echo x > {mark}; while :; do sleep 60; done", grace=grace, stop_signal=signal.SIGINT
    )
    with anyio.fail_after(60):
        async with aipc.supervise([shell("other", STAY), stubborn], grace=0.05 if how == "its limit" else 3_600) as supervisor:
            await until(mark.exists)
            os.kill(ME, signal.SIGTERM)
            await until(lambda: supervisor.is_stopping)
            if how == "a second signal":
                os.kill(ME, signal.SIGTERM)
    assert supervisor.status()["stubborn"].outcome == "killed by SIGKILL"
    assert (supervisor.forced, supervisor.exit_code) == (True, 1)


async def test_restarted_by_hand() -> None:
    async with aipc.supervise([shell("one", STAY), shell("two", STAY)]) as supervisor:
        await supervisor.wait_ready()
        before = supervisor.status()
        supervisor.restart("two")
        await until(lambda: supervisor.status()["two"].pid not in (None, before["two"].pid))
        assert supervisor.status()["one"] == before["one"]
        assert supervisor.status()["two"].restarts == 0
        with pytest.raises(KeyError, match="there are one, two"):
            supervisor.restart("three")


async def test_a_crash_leaves_no_grandchild(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    program = shell("one", f"sleep 60 & echo $! > {place}; kill -9 $$", restart="never")
    with anyio.fail_after(60):
        assert await aipc.supervise([program]) == 1
    assert not lives(await number_in(place))


@pytest.mark.parametrize("how", [LookupError, SystemExit, "cancelled"])
async def test_left_in_a_hurry(how: Any) -> None:
    with anyio.fail_after(60), anyio.CancelScope() as scope, suppress(LookupError, SystemExit):  # by itself, and not in a group
        async with aipc.supervise([shell(str(number), STAY) for number in range(3)], grace=3_600) as supervisor:
            await supervisor.wait_ready()
            if how != "cancelled":
                raise how
            scope.cancel()
            await anyio.sleep_forever()
    assert {one.state for one in supervisor.status().values()} <= {"ended", "failed"}


@pytest.mark.costly
async def test_many_that_crash_at_random(caplog: pytest.LogCaptureFixture) -> None:
    """No zombie, no orphan, and an ordered stop in the middle of it."""
    seconds = times(1, 60)
    caplog.set_level(logging.CRITICAL, "aipc")
    scripts = [f"sleep 60 & sleep 0.0{number % 7}; kill -{(9, 11, 15)[number % 3]} $$" for number in range(times(7, 20))]
    programs = [shell(str(number), script, backoff=0.01, backoff_limit=0.1) for number, script in enumerate(scripts)]
    with anyio.fail_after(seconds + 60):
        async with aipc.supervise(programs, on_line=lambda line: None) as supervisor:
            await until(lambda: all(one.restarts for one in supervisor.status().values()))
            await anyio.sleep(seconds - 1)
    assert not supervisor.forced


async def test_programs_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    code = (
        "import aipc, anyio, functools\n"
        f"program = aipc.Program('one', 'echo $$ > {place}; exec sleep 60', shell=True)\n"
        "async def main(): await aipc.supervise([program])\n"
        "anyio.run(main)"
    )
    async with aipc.popen([sys.executable, "-c", code]) as supervisor:
        pid = await number_in(place)
        supervisor.kill()
        await until(lambda: not lives(pid))


def test_what_cannot_be_is_refused_at_once() -> None:
    for arguments, options in (
        (("", "true"), {}),
        (("one", []), {}),
        (("one", "true", "sometimes"), {}),
        (("one", "true"), {"grace": -1.0}),
        (("one", "true"), {"healthy_after": float("nan")}),
        (("one", "true"), {"stop_signal": 0}),
    ):
        with pytest.raises(aipc.AddressError):
            aipc.Program(*arguments, **options)
    for programs in ([], [aipc.Program("one", "true"), aipc.Program("one", "false")]):
        with pytest.raises(aipc.AddressError, match="a name of its own"):
            aipc.supervise(programs)
