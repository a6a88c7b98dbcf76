"""Signals sent."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

import aipc
from tests.peers import python, said
from tests.subjects import queued_signals

from . import FLAG, ME, ONE

pytestmark = pytest.mark.anyio


def test_does_it_exist() -> None:
    aipc.send_signal(ME, 0)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    aipc.send_signal(child.pid, 0)
    aipc.send_signal(child.pid, 0, pidfd=pidfd)
    child.communicate(b"")
    for options in ({}, {"value": 1}, {"pidfd": pidfd}, {"pidfd": pidfd, "value": 1}, {"group": True}):
        with pytest.raises(aipc.ObjectMissing, match=str(child.pid)) as caught:
            aipc.send_signal(child.pid, 0, **options)
        assert isinstance(caught.value, ProcessLookupError)
        assert isinstance(caught.value, aipc.ProcessMissing)
    os.close(pidfd)


def test_not_allowed() -> None:
    """A process of another user's, as seen by one without privileges."""
    if os.getuid():
        with pytest.raises(aipc.AccessDenied):
            aipc.send_signal(1, 0)
        return
    code = (
        "import os, aipc\n"
        f"aipc.send_signal({ME}, 0)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for value in (None, 1):\n"
        f"    try: aipc.send_signal({ME}, {int(FLAG)}, value)\n"
        "    except aipc.AccessDenied as error: print(error, flush=True)\n"
    )
    with python(code) as child:
        assert [said(child).rpartition(": ")[0] for _ in range(2)] == [f"[Errno 1] SIGUSR2 to process {ME}"] * 2


@pytest.mark.parametrize("form", ["group", "negative"])
def test_process_group(form: str) -> None:
    children = []
    for _ in range(3):
        children.append(subprocess.Popen(["sleep", "60"], process_group=children[0].pid if children else 0))
    leader = children[0].pid
    if form == "group":
        aipc.send_signal(leader, signal.SIGTERM, group=True)
    else:
        aipc.send_signal(-leader, signal.SIGTERM)
    assert [child.wait(10) for child in children] == [-signal.SIGTERM] * 3


def test_pidfd_guards_against_reuse() -> None:
    """The pid says another process by now: the pidfd's owner gets the signal, or nobody."""
    with subprocess.Popen(["sleep", "60"]) as child, subprocess.Popen(["sleep", "60"]) as reused:
        pidfd = os.pidfd_open(child.pid)
        aipc.send_signal(reused.pid, signal.SIGTERM, pidfd=pidfd)
        assert child.wait(10) == -signal.SIGTERM
        for value in (None, 3):
            with pytest.raises(aipc.ObjectMissing):
                aipc.send_signal(reused.pid, signal.SIGTERM, value, pidfd=pidfd)
        os.close(pidfd)
        assert reused.poll() is None
        reused.kill()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, signal.SIGTERM), ValueError),
        ((-1, signal.SIGTERM), ValueError),
        ((1 << 31, 0), ValueError),
        ((ME, -1), ValueError),
        ((ME, 32), ValueError),
        ((ME, 65), ValueError),
        ((ME, FLAG, 1 << 31), ValueError),
        ((ME, FLAG, -(1 << 31) - 1), ValueError),
        ((-ME, FLAG, 1), aipc.UnsupportedOperation),
    ],
)
def test_what_cannot_be_sent(arguments: tuple[int, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        aipc.send_signal(*arguments)


def test_limit() -> None:
    """At RLIMIT_SIGPENDING a signal with a value is refused, not lost."""
    with queued_signals(50):
        count = 0
        with pytest.raises(aipc.LimitExceeded, match="RLIMIT_SIGPENDING"):  # noqa: PT012 - counted until it raises
            while True:
                aipc.send_signal(ME, ONE, count)
                count += 1
        pending = []
        while info := signal.sigtimedwait([ONE], 0):
            pending.append(info)
        assert 0 < len(pending) == count <= 50
        aipc.send_signal(ME, ONE, 1)


def test_blocked_signals(alone: Callable[[str], None]) -> None:
    alone("""
async def function():
    caught = []
    signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    with aipc.blocked_signals(signal.SIGUSR1, signal.SIGHUP):
        with aipc.blocked_signals(signal.SIGUSR1):
            os.kill(ME, signal.SIGUSR1)
            os.kill(ME, signal.SIGUSR1)
        assert caught == []
    assert caught == [signal.SIGUSR1]
    assert mask() == set()
    try:
        with aipc.blocked_signals(65):
            raise AssertionError
    except ValueError as error:
        assert "65" in str(error)
""")
