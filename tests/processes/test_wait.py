"""aipc.wait: whichever child ends first, of all kinds, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, inject

from . import functions

pytestmark = pytest.mark.anyio
SLEEP = ["sleep", "60"]


async def test_the_first_to_end() -> None:
    async with aipc.popen(SLEEP) as one, aipc.popen(SLEEP) as other, aipc.popen(SLEEP) as third:
        children = [one, other, third]
        with anyio.fail_after(30):
            for victim in (other, third, one):
                os.kill(victim.pid, signal.SIGKILL)
                assert await aipc.wait(*children) is victim
                assert victim.returncode == -signal.SIGKILL
                children.remove(victim)
        with pytest.raises(ValueError, match="children"):
            await aipc.wait(*children)


async def test_one_that_has_ended_already() -> None:
    async with aipc.popen(SLEEP) as slow, aipc.popen("true") as one, aipc.popen("true") as other:
        await one.wait()
        await other.wait()
        assert await aipc.wait(slow, other, one) is other
        slow.kill()


async def test_of_all_kinds() -> None:
    """A pipeline has ended when all of it has."""
    async with (
        aipc.popen(SLEEP) as child,
        aipc.pipeline("true", SLEEP) as pipeline,
        aipc.spawn(functions.leave, "after a while", 7) as worker,
    ):
        with anyio.fail_after(30):
            await pipeline.processes[0].wait()
            worker.end_stream()
            assert await aipc.wait(child, pipeline, worker) is worker
            assert worker.returncode == 7
            pipeline.kill()
            assert await aipc.wait(child, pipeline) is pipeline
            child.kill()


async def test_other_children_are_left_alone() -> None:
    others = subprocess.Popen(["sh", "-c", "exit 4"])
    async with aipc.popen("true") as child:
        assert await aipc.wait(child) is child
    assert others.wait() == 4


async def test_cancelled() -> None:
    async with aipc.popen(SLEEP) as one, aipc.popen(SLEEP) as other:
        for attempt in range(6):
            assert await inject(aipc.wait(one, other), attempt % 2) is CANCELLED
        other.kill()
        assert await aipc.wait(one, other) is other
        one.kill()


async def test_in_a_forked_child() -> None:
    async with aipc.popen(SLEEP) as child:
        if (pid := os.fork()) == 0:
            try:
                child.returncode  # noqa: B018
            except aipc.ForkedError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        child.kill()
