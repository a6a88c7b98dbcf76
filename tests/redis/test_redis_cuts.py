"""Connections that are cut after any number of bytes: what was acknowledged comes, and a token is given once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import anyio
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.redis.lock import RemoteLock

from ..subjects import times
from .peers.cutting import CuttingProxy
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio
JOBS = times(400, 20_000)
HOLDS = times(200, 5_000)
SEED = random.randrange(1_000_000)
BYTES = 1_000, 60_000
"""After so many a connection is cut, some in the greeting: the scripts, which the first ones load, have 90,000."""


@pytest.fixture
def proxy(place: Path, redis: RedisServer) -> Iterator[CuttingProxy]:
    print(f"seed {SEED}")
    cutting = CuttingProxy(f"{place}/proxy", redis.path, *BYTES, SEED)
    yield cutting
    cutting.end()


@pytest.mark.costly
async def test_jobs_that_were_acknowledged_come(proxy: CuttingProxy) -> None:
    sent: set[bytes] = set()
    got: set[bytes] = set()
    url = f"redis+unix:{proxy.path}?name=jobs&lease_seconds=0.5&wait=1"
    with anyio.fail_after(times(30, 600)):
        async with aipc.open_channel(url) as opened, anyio.create_task_group() as tasks:
            queue = cast("RemoteJobChannel", opened)

            async def consume() -> None:
                while len(got) < JOBS:
                    try:
                        async with queue.lease() as job:
                            got.add(job.data[:8])
                    except aipc.LeaseLost:
                        continue  # it comes again

            tasks.start_soon(consume)
            for number in range(JOBS):
                data = b"%08d" % number
                await queue.send(data + bytes(number % 1000))
                sent.add(data)
    assert got == sent
    assert proxy.cuts > 3


async def test_no_token_is_given_twice(proxy: CuttingProxy) -> None:
    tokens: list[int] = []
    inside = 0
    url = f"redis+unix:{proxy.path}?name=lock&ttl=5"

    async def hold(count: int) -> None:
        nonlocal inside
        async with aipc.open_lock(url, wait=True) as opened:
            lock = cast("RemoteLock", opened)
            for _ in range(count):
                async with lock:
                    inside += 1
                    assert inside == 1
                    tokens.append(lock.token)
                    await anyio.sleep(0)
                    inside -= 1

    with anyio.fail_after(times(30, 600)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, HOLDS)
            tasks.start_soon(hold, HOLDS)
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 2 * HOLDS
    assert proxy.cuts > 1
