"""What a service tells its manager, over a real datagram socket; sockets passed to a process that was really started so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import systemd


@pytest.fixture(autouse=True)
def _no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(place / "notify") if request.param == "path" else f"@aipc-test-notify-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(10)
        yield sock


def test_nobody_asked() -> None:
    assert not any([systemd.ready(), systemd.reloading(), systemd.stopping(), systemd.status("x"), systemd.watchdog()])
    assert systemd.notify("READY=1") is False
    assert systemd.watchdog_interval() is None
    assert systemd.listen_fds() == []


def test_what_the_manager_hears(manager: socket.socket) -> None:
    assert systemd.ready()
    assert manager.recv(4096) == b"READY=1"
    assert systemd.ready("serving on 3 sockets")
    assert manager.recv(4096) == b"READY=1\nSTATUS=serving on 3 sockets"
    assert systemd.stopping()
    assert manager.recv(4096) == b"STOPPING=1"
    assert systemd.status("80 % größer")
    assert manager.recv(4096) == "STATUS=80 % größer".encode()
    assert systemd.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"
    assert systemd.notify("MAINPID=1", "X_OWN=a=b")
    assert manager.recv(4096) == b"MAINPID=1\nX_OWN=a=b"


def test_reloading_tells_when(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_full_queue_does_not_block(manager: socket.socket) -> None:
    sent = 0
    with pytest.raises(anyio.WouldBlock):  # noqa: PT012 - counted until it raises
        while True:
            systemd.status(str(sent))
            sent += 1
    assert [manager.recv(4096) for _ in range(sent)] == [f"STATUS={number}".encode() for number in range(sent)]


@pytest.mark.parametrize("assignment", ["READY", "", "=1", "STATUS=two\nREADY=1"])
def test_bad_assignment(assignment: str, manager: socket.socket) -> None:
    with pytest.raises(ValueError):
        systemd.notify("READY=1", assignment)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_status_cannot_smuggle(manager: socket.socket) -> None:
    with pytest.raises(ValueError):
        systemd.status("well\nMAINPID=1")


def test_manager_that_is_gone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(place / "missing"))
    with pytest.raises(aipc.ObjectMissing, match="missing"):
        systemd.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(place / "missing"))
    with pytest.raises(aipc.NobodyListens):
        systemd.ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    with pytest.raises(aipc.AddressError, match="vsock"):
        systemd.ready()


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("20000000", None, 20.0), ("1500000", "own", 1.5), ("1500000", "1", None), ("0", None, None), ("", None, None)],
)
def test_watchdog(microseconds: str, pid: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.watchdog_interval() == seconds


@pytest.mark.parametrize("name", ["WATCHDOG_USEC", "LISTEN_FDS"])
@pytest.mark.parametrize("value", ["-1", "1.5", "many", "²"])
def test_malformed_numbers(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(aipc.AddressError, match=name):
        systemd.listen_fds() if name == "LISTEN_FDS" else systemd.watchdog_interval()


CHILD = """
import os
from aipc import systemd
try:
    passed = systemd.listen_fds()
    assert systemd.listen_fds() == passed and "LISTEN_FDS" in os.environ
    print(passed, [os.get_inheritable(fd) for fd, _ in passed], [os.fstat(fd).st_ino for fd, _ in passed])
except Exception as error:
    print(repr(error))
"""


def activated(sockets: list[socket.socket], **variables: str) -> str:
    """What a process says to which these sockets were passed as systemd does it: from descriptor 3 on, and by exec."""
    numbers = range(len(sockets))  # far above 3 first, so that no move overwrites one that is still to be moved
    moves = [f"os.dup2({sockets[number].fileno()}, {100 + number})" for number in numbers]
    moves += [f"os.dup2({100 + number}, {3 + number})" for number in numbers]
    code = (
        f"import os, sys; {'; '.join(moves) or 'pass'}\n"
        f"os.environ.update({variables!r})\n"
        "os.environ['LISTEN_PID'] = os.environ.get('LISTEN_PID') or str(os.getpid())\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, CHILD],
        pass_fds=[sock.fileno() for sock in sockets],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip()


@pytest.mark.costly
def test_passed_sockets() -> None:
    one, other = socket.socketpair()
    with one, other:
        inodes = [os.fstat(sock.fileno()).st_ino for sock in (one, other)]
        assert activated([one, other], LISTEN_FDS="2") == f"[(3, 'unknown'), (4, 'unknown')] [False, False] {inodes}"
        assert activated([one], LISTEN_FDS="1", LISTEN_FDNAMES="web") == f"[(3, 'web')] [False] {inodes[:1]}"
        named = activated([one, other], LISTEN_FDS="2", LISTEN_FDNAMES="web:admin")
        assert named == f"[(3, 'web'), (4, 'admin')] [False, False] {inodes}"
        assert activated([one], LISTEN_FDS="1", LISTEN_PID="1") == "[] [] []"
        assert activated([], LISTEN_FDS="0") == "[] [] []"
        assert activated([one, other], LISTEN_FDS="2", LISTEN_FDNAMES="web").startswith("AddressError")
        assert "descriptor 4" in activated([one], LISTEN_FDS="2")
