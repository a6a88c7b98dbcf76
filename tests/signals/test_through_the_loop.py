"""Signals received through the loop's own handling."""

from __future__ import annotations

import asyncio
import signal
import subprocess

import anyio
import pytest

import aipc
from aipc.testing.expect import settle
from tests.peers import python, run, said

from . import ME, ONE, expect_none, take

pytestmark = pytest.mark.anyio


async def test_number_only() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1, signal.SIGHUP) as received:
        aipc.send_signal(ME, signal.SIGHUP)
        assert await take(received) == (signal.SIGHUP, None, None, None)
        aipc.send_signal(ME, signal.SIGUSR1, value=5)
        assert await take(received) == aipc.SignalInfo(signal.SIGUSR1)


async def test_wakes_a_task_that_waits() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received, anyio.create_task_group() as tasks:
        tasks.start_soon(take, received)
        await settle()
        aipc.send_signal(ME, signal.SIGUSR1)


async def test_from_another_process() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
        run("sh", "-c", f"kill -USR1 {ME}")
        assert (await take(received)).signum == signal.SIGUSR1


@pytest.mark.parametrize("signum", [signal.SIGUSR1, ONE])
async def test_standard_signals_coalesce(signum: int, caught: list[int]) -> None:
    """At least one since the last time: whatever the loop's own handling makes of several."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
    try:
        async with aipc.open_signal_receiver(signum) as received:
            for _ in range(5):
                aipc.send_signal(ME, signum)
            await settle()
            assert (await take(received)).signum == signum
            await expect_none(received)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def test_earlier_handler_comes_back(caught: list[int]) -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
        aipc.send_signal(ME, signal.SIGUSR1)
        await take(received)
        assert caught == []
    aipc.send_signal(ME, signal.SIGUSR1)
    assert caught == [signal.SIGUSR1]


async def test_handler_in_c_comes_back() -> None:
    """faulthandler's, of which Python's table of handlers knows nothing."""
    code = (
        "import faulthandler, os, signal, sys, anyio, aipc\n"
        "async def main():\n"
        "    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "        await anext(received)\n"
        "faulthandler.register(signal.SIGUSR1, sys.stdout, all_threads=False)\n"
        "anyio.run(main)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    with python(code) as child:
        assert "most recent call first" in said(child)


async def test_handler_of_the_loop_comes_back(anyio_backend_name: str) -> None:
    """`loop.add_signal_handler`: it is called meanwhile, too."""
    if anyio_backend_name == "trio":
        return
    loop, seen = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop")
    try:
        async with aipc.open_signal_receiver(signal.SIGUSR1) as received, aipc.open_signal_receiver(signal.SIGUSR1):
            aipc.send_signal(ME, signal.SIGUSR1)
            await take(received)
        await settle()
        seen.clear()
        aipc.send_signal(ME, signal.SIGUSR1)
        await settle()
        assert seen == ["loop"]
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def test_interrupt_key() -> None:
    """SIGINT is the loops' own business, and is again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    async with aipc.open_signal_receiver(signal.SIGINT) as received:
        aipc.send_signal(ME, signal.SIGINT)
        assert (await take(received)).signum == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == before


async def test_child_ended(anyio_backend: object, anyio_backend_name: str) -> None:
    """SIGCHLD is refused by uvloop; `details`, which the error recommends, takes it on each loop (tests below)."""
    if anyio_backend == ("asyncio", {"use_uvloop": True}):
        with pytest.raises(aipc.UnsupportedOperation, match=r"409.*details=True"):
            async with aipc.open_signal_receiver(signal.SIGHUP, signal.SIGCHLD):
                pass
        return
    async with aipc.open_signal_receiver(signal.SIGCHLD) as received:
        child = subprocess.Popen(["true"])
        assert (await take(received)).signum == signal.SIGCHLD
        assert child.wait() == 0
