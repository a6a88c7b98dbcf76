"""Signals between two processes: Python and C, Python and Python."""

from __future__ import annotations

import os
from contextlib import suppress

import anyio
import pytest

import aipc
from tests.peers import process, python, said, tell
from tests.subjects import queued_signals, times

from . import ME, ONE, PRELUDE, detailed, expect_none, take

pytestmark = pytest.mark.anyio


async def test_from_c(c_peer: str) -> None:
    async with detailed(ONE) as received:
        with process(c_peer, "send", str(ME), str(int(ONE)), "-2", "5") as peer:
            got = [await take(received) for _ in range(5)]
            pid, uid, _ = map(int, said(peer).split())
    assert got == [(ONE, pid, uid, value) for value in (-2, -1, 0, 1, 2)]
    assert pid == peer.pid


def test_to_c(c_peer: str) -> None:
    with process(c_peer, "receive", str(int(ONE)), "5") as peer:
        pid = int(said(peer))
        for value in (-2, -1, 0, 1):
            aipc.send_signal(pid, ONE, value)
        pidfd = os.pidfd_open(pid)
        aipc.send_signal(pid, ONE, 2, pidfd=pidfd)
        os.close(pidfd)
        assert [said(peer) for _ in range(5)] == [f"{value} {ME} {os.getuid()}" for value in (-2, -1, 0, 1, 2)]


MANY = times(15_000, 100_000)
RECEIVER = f"""{PRELUDE}
import resource
resource.setrlimit(resource.RLIMIT_SIGPENDING, (5_000, resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]))
async def function():
    sender = None
    async with aipc.open_signal_receiver(ONE, details=True) as received:
        print(ME, flush=True)
        for count in map(int, sys.stdin):
            for value in range(count):
                info = await anext(received)
                assert info.value == value, (info, value)
                sender = sender or info.pid
                assert info.pid == sender
            print(sender, flush=True)
main(function)
"""


def test_many_with_values_from_python(loop: str) -> None:
    """In order, none lost below the kernel's limit; at it an error, and nothing of that signal sent."""
    with python(RECEIVER, loop) as receiver:
        pid = int(said(receiver))
        refused, value = 0, 0
        while not refused:  # nobody reads yet
            try:
                aipc.send_signal(pid, ONE, value)
                value += 1
            except aipc.LimitExceeded:
                refused += 1
        assert 0 < value <= 5_000
        tell(receiver, str(value))
        assert said(receiver) == str(ME)
        tell(receiver, str(MANY))
        for value in range(MANY):
            while True:
                with suppress(aipc.LimitExceeded):
                    aipc.send_signal(pid, ONE, value)
                    break
                os.sched_yield()
        assert said(receiver) == str(ME)


async def test_many_with_values_from_c(c_peer: str) -> None:
    with queued_signals(5_000):
        async with detailed(ONE) as received:
            with process(c_peer, "send", str(ME), str(int(ONE)), "0", str(MANY)) as peer, anyio.fail_after(60):
                for value in range(MANY):
                    info = await anext(received)
                    assert (info.value, info.pid) == (value, peer.pid)
                assert int(said(peer).split()[0]) == peer.pid
            await expect_none(received)
