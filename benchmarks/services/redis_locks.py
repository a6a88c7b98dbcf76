"""Locks on a Redis server: how long a hand-over between two processes takes, beside a bare RPUSH to BLPOP, and what a dead waiter costs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import tempfile
from time import perf_counter
from typing import Any

import anyio

import aipc

from ..harness import child, run

_HOLDS, _HOLD = 300, 1e-3
_DEATHS = 5


def hand_over(loop: str, path: str) -> float:
    """p99 from a release to the acquisition in the other process that waits, in ms."""
    url = f"redis+unix:{path}?name={os.urandom(6).hex()}"

    async def hold() -> list[tuple[int, float, float]]:
        seen = []
        async with aipc.open_lock(url) as lock:
            for _ in range(_HOLDS):
                async with lock:
                    since, token = perf_counter(), lock.token
                    await anyio.sleep(_HOLD)
                    seen.append((token, since, perf_counter()))
        return seen

    mine, others = _in_two(loop, hold, hold)
    turns = sorted([*((*turn, 0) for turn in mine), *((*turn, 1) for turn in others)])
    waits = [after[1] - before[2] for before, after in itertools.pairwise(turns) if before[3] != after[3]]
    return statistics.quantiles(waits, n=100)[98] * 1e3


def by_hand(loop: str, path: str) -> float:
    """p99 from RPUSH in one process to BLPOP in another one that waits, by redis-py, in ms."""
    import redis.asyncio

    names = os.urandom(6).hex(), os.urandom(6).hex()

    async def turns(mine: str, other: str, *, first: bool) -> list[tuple[float, float]]:
        seen, got = [], 0.0
        async with redis.asyncio.Redis(unix_socket_path=path) as client:
            for _ in range(_HOLDS):
                if not first:
                    await client.blpop([mine], timeout=5)
                    got = perf_counter()
                first = False
                await anyio.sleep(_HOLD)
                seen.append((got, perf_counter()))
                await client.rpush(other, b"x")
        return seen

    mine, others = _in_two(loop, lambda: turns(*names, first=True), lambda: turns(names[1], names[0], first=False))
    waits = [after[0] - before[1] for before, after in zip(mine, others, strict=False)]
    waits += [after[0] - before[1] for before, after in zip(others, mine[1:], strict=False)]
    return statistics.quantiles(waits, n=100)[98] * 1e3


def _in_two(loop: str, here: Any, there: Any) -> tuple[list[Any], list[Any]]:
    """What two async functions give, of which the second one runs in a process of its own."""
    with tempfile.NamedTemporaryFile("w+") as file:

        def other() -> None:
            json.dump(run(loop, there), file)
            file.flush()

        pid = child(other)
        mine = run(loop, here)
        os.waitpid(pid, 0)
        file.seek(0)
        return mine, json.load(file)


def dead_waiter(loop: str, path: str) -> float:
    """The longest of a few hand-overs past a waiter that was killed, in ms."""
    return max(_past_a_dead_one(loop, path) for _ in range(_DEATHS))


def _past_a_dead_one(loop: str, path: str) -> float:
    import redis

    name = os.urandom(6).hex()
    url = f"redis+unix:{path}?name={name}"
    reading, writing = os.pipe()

    async def wait() -> None:
        async with aipc.open_lock(url) as lock:
            os.read(reading, 1)
            async with lock:
                pass

    pid = child(run, loop, wait)
    client = redis.Redis(unix_socket_path=path)

    async def queued(count: int) -> None:
        while client.zcard(f"{{{name}}}:queue") != count:
            await anyio.sleep(0.005)

    async def take_turns() -> float:
        async with aipc.open_lock(url) as lock, aipc.open_lock(url) as other:
            await lock.acquire()
            os.write(writing, b"x")
            await queued(1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            acquired = 0.0

            async def acquire() -> None:
                nonlocal acquired
                async with other:
                    acquired = perf_counter()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(acquire)
                await queued(2)
                released = perf_counter()
                lock.release()
            return acquired - released

    try:
        return float(run(loop, take_turns)) * 1e3
    finally:
        client.close()
        os.close(reading)
        os.close(writing)
