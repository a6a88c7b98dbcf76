"""However a child's block is left, the child is ended and reaped; and nobody else's children are touched."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle
from tests.peers import process
from tests.subjects import times

from . import functions
from .conftest import children

pytestmark = pytest.mark.anyio


class Left(Exception):
    """The block is left by an error."""


async def test_leaving_lets_it_end_by_itself() -> None:
    async with aipc.popen("sh -c 'cat >/dev/null; exit 3'", "w") as child:
        await child.send(b"x" * 1_000_000)
    assert child.returncode == 3
    async with aipc.popen("yes", "r") as child:
        await child.receive()
    assert child.returncode == -signal.SIGPIPE


async def test_leaving_by_an_error_terminates() -> None:
    with pytest.raises(Left):
        async with aipc.popen("sort", "r+") as child:
            raise Left
    assert child.returncode == -signal.SIGTERM
    with pytest.raises(Left):
        async with aipc.open_channel("exec:sort") as channel:
            raise Left
    assert isinstance(channel, aipc.ProcessChannel)
    assert channel.returncode == -signal.SIGTERM


async def test_cancelling_terminates() -> None:
    with anyio.move_on_after(0.01):
        async with aipc.popen("cat", "r+") as child:
            await child.receive()
    assert child.returncode == -signal.SIGTERM


async def test_cancelled_it_has_its_grace_all_the_same(misbehaving: str) -> None:
    with anyio.CancelScope() as scope:
        async with aipc.popen([misbehaving, "slow"], "r", grace=60) as child:
            assert await child.receive() == b"ready\n"
            scope.cancel()
            await child.receive()
    assert child.returncode == 3


async def test_cancelled_while_it_ends_by_itself() -> None:
    child = await aipc.popen("sleep 60")
    with anyio.move_on_after(0.01) as scope:
        await child.aclose()
    assert scope.cancelled_caught
    assert child.returncode == -signal.SIGTERM


async def test_after_the_grace_it_is_terminated() -> None:
    async with aipc.popen("sleep 60", grace=0.01) as child:
        pass
    assert child.returncode == -signal.SIGTERM


@pytest.mark.parametrize("by_error", [False, True])
async def test_stubborn_is_killed(misbehaving: str, by_error: bool) -> None:
    with suppress(Left):
        async with aipc.popen([misbehaving, "stubborn"], "r+", grace=0.01) as child:
            assert await child.receive() == b"ready\n"
            if by_error:
                raise Left
    assert child.returncode == -signal.SIGKILL


async def test_closing_again_and_at_once() -> None:
    child = await aipc.popen("cat", "r+")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(child.aclose)
    await child.aclose()
    assert child.returncode == 0
    with pytest.raises(anyio.ClosedResourceError):
        await child.receive()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await child.aclose()


async def test_closing_wakes_who_waits() -> None:
    seen: list[object] = []
    child = await aipc.popen("cat", "r+")
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            try:
                await child.receive()
            except anyio.ClosedResourceError as error:
                seen.append(type(error))

        async def wait() -> None:
            seen.append(await child.wait())

        tasks.start_soon(receive)
        tasks.start_soon(wait)
        await settle()
        await child.aclose()
    assert sorted(map(str, seen)) == ["0", "<class 'anyio.ClosedResourceError'>"]


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
async def test_asyncios_second_cancel_kills(misbehaving: str) -> None:
    started: list[aipc.ProcessChannel] = []

    async def run() -> None:
        async with aipc.popen([misbehaving, "stubborn"], "r+", grace=60) as child:
            await child.receive()
            started.append(child)
            await anyio.sleep_forever()

    with anyio.fail_after(30):
        task = asyncio.create_task(run())
        while not started:
            await anyio.sleep(0.001)
        task.cancel()
        await settle()
        assert children() == [started[0].pid]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.costly
async def test_cancelled_at_any_moment_no_child_is_left() -> None:
    """Started, written to, read from, closed, and cancelled at some moment of that."""
    chance = random.Random(7)
    cancelled = 0
    for number in range(starts := times(200, 1_000)):
        with anyio.move_on_after(chance.random() * 0.004) as scope:
            if number % 2:
                async with aipc.popen("cat", "r+") as child:
                    await child.send(b"x")
                    await child.receive()
                    await anyio.sleep(0)
            else:
                async with aipc.pipeline("cat", "cat") as pipeline:
                    assert await pipeline.communicate(b"x") == b"x"
        cancelled += scope.cancelled_caught
        assert children() == []
    assert starts / 10 < cancelled <= starts


@pytest.mark.costly
@pytest.mark.parametrize("moment", Moment)
async def test_cancelled_at_each_await_no_child_is_left(moment: Moment) -> None:
    async def live(kind: int) -> None:
        if kind:
            async with aipc.popen("cat", "r+") as child:
                await child.send(b"x")
                await child.receive()
                child.close()
                await child.wait()
        else:
            async with aipc.pipeline("cat", "cat") as pipeline:
                assert await pipeline.communicate(b"x") == b"x"

    cancelled = 0
    for number in range(200):
        outcome = await inject(live(number % 2), number // 2 % 20, moment)
        cancelled += outcome is CANCELLED
        assert children() == []
    assert cancelled >= 10  # at the first await, whatever the others come to: it is always reached


@pytest.fixture
def on_sigchld() -> Iterator[list[int]]:
    """A user's own handler, and what it was called with."""
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda signum, frame: seen.append(signum))
    yield seen
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_users_of_sigchld_are_unharmed(on_sigchld: list[int]) -> None:
    with subprocess.Popen(["sh", "-c", "read x; exit 9"], stdin=subprocess.PIPE) as theirs:
        async with aipc.popen("sh -c 'exit 4'") as ours:
            with anyio.fail_after(30):
                assert await ours.wait() == 4
                while not on_sigchld:
                    await anyio.sleep(0.001)
        assert theirs.stdin is not None
        theirs.stdin.close()
        assert theirs.wait(30) == 9
    assert signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, signal.SIG_IGN)


@pytest.mark.costly
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_sigchld_ignored(loop: str) -> None:
    """The kernel reaps such a process's children itself and tells nobody how they ended: 0, as subprocess says."""
    code = """
import signal, sys, anyio, aipc
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def main():
    for _ in range(50):
        async with aipc.popen("sh -c 'exit 3'") as child:
            await child.wait()
        assert child.returncode == 0
        async with aipc.popen("cat", "r+") as child:
            await child.send(b"x")
            assert await child.receive() == b"x"
        assert child.returncode == 0
        async with aipc.pipeline("cat", "cat") as pipeline:
            assert await pipeline.communicate(b"x") == b"x"
        assert pipeline.returncodes == [0, 0]
    print("done")
backend, options = ("trio", {}) if sys.argv[1] == "trio" else ("asyncio", {"use_uvloop": sys.argv[1] == "uvloop"})
anyio.run(main, backend=backend, backend_options=options)
"""
    with process(sys.executable, "-W", "error", "-c", code, loop) as running:
        assert running.stdout is not None
        assert running.stdout.read() == "done\n"


async def test_status_taken_by_somebody_else() -> None:
    """A program that waits for any child may take ours: no error, and nobody else's status instead."""
    async with aipc.popen("sh -c 'exit 3'") as child, aipc.popen("cat", "w") as other:
        assert os.waitpid(-1, 0)[0] == child.pid
        with anyio.fail_after(30):
            assert await child.wait() == 0
        assert other.returncode is None
        child.kill()
        other.send_signal(0)


@pytest.mark.costly
async def test_stopping_several_tells_who_needed_force(misbehaving: str) -> None:
    """All get SIGTERM before any is waited for."""
    for _ in range(2):
        good, slow, bad = [await aipc.popen([misbehaving, what], "r+") for what in ("hermit", "slow", "stubborn")]
        row, worker = await aipc.pipeline("cat", "cat"), await aipc.spawn(functions.stubborn)
        for child in (good, slow, bad, worker.channel):
            assert (await child.receive()).strip() == b"ready"
        with anyio.fail_after(30):
            assert await aipc.stop_children(good, slow, bad, row, worker, grace=0.5) == [bad, worker]
        assert children() == []
        assert [good.outcome, slow.outcome, bad.outcome] == ["killed by SIGTERM", "exit status 3", "killed by SIGKILL"]
        assert row.returncodes == [-signal.SIGTERM] * 2
    assert await aipc.stop_children() == []
    assert await aipc.stop_children(good, bad) == [bad]
