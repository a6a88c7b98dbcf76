"""The ring between processes with and without store order and membarrier(2)."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import cycle, product
from pathlib import Path

import pytest

from aipc._sys import membarrier

from ...peers import said
from ...subjects import LONG
from .rings import ECHO, SIZES

OURS = ["membarrier", "order", "membarrier,order", "membarrier,order,spin", ""]
THEIRS = ["membarrier,order", "order,spin", ""]


@pytest.mark.costly
@pytest.mark.parametrize(("ours", "theirs"), list(product(OURS, THEIRS) if LONG else zip(OURS, cycle(THEIRS), strict=False)))
def test_without_order_or_barriers(ours: str, theirs: str, place: Path) -> None:
    """Each side may have what the other lacks: fences in Python, a ring for each message."""
    server = f"""
import asyncio, os, sys
import aipc
async def main():
    async with aipc.listen("shm:{place}/ring") as listener:
        print("ready", flush=True)
        async with await listener.accept() as channel:
            for size in {SIZES} * 20:
                message = os.urandom(size)
                await channel.send(message)
                assert await channel.receive() == message[::-1]
                if size == 1000:
                    await asyncio.sleep(0.001)  # the peer parks
asyncio.run(main())
"""
    environment = dict(os.environ, AIPC_DISABLE=ours)
    command = [sys.executable, "-c", "import signal; signal.alarm(60)\n" + server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serving:
        assert said(serving) == "ready"
        environment["AIPC_DISABLE"] = theirs
        subprocess.run([sys.executable, "-c", ECHO, str(place), "4096"], check=True, timeout=60, env=environment)
        assert serving.wait() == 0


def test_barriers_are_where_they_should_be() -> None:
    """On a machine with store order and membarrier(2), as each that runs these tests is, no fence; switched off, one."""
    command = "from aipc._sys import membarrier as m; b = m.Barriers(); print(b.fence is None, b.global_barrier is None)"
    for disabled, expected in (("", "True False"), ("order", "False False"), ("membarrier", "True True")):
        done = subprocess.run(
            [sys.executable, "-c", command],
            check=True,
            capture_output=True,
            text=True,
            env=dict(os.environ, AIPC_DISABLE=disabled),
        )
        if disabled or membarrier.registered():
            assert done.stdout.strip() == expected
