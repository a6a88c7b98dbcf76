"""`python -m benchmarks redis`: job queues and locks on a Redis server, beside redis-py's asyncio client used by hand.

By hand: XADD, XREADGROUP with BLOCK, and XACK for jobs; RPUSH and BLPOP where a lock is handed over. redis-py has no trio, so
aipc on trio stands beside redis-py on asyncio. The server is this run's own, on a Unix socket in a directory of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from time import perf_counter, sleep
from typing import Any

import anyio

import aipc

from ..harness import LOOPS, alternate, child, run
from . import redis_locks

DATA = b"x" * 64
_GROUP = "workers"
_CONSUMERS, _JOBS, _TRIPS = 50, 2_000, 400
_MOST_RATIO, _LEAST_RATE = 0.5, 2.0
_MOST_HAND_OVER, _MOST_DEAD = 5, 100  # ms
_FIRST = 50  # round trips that do not count: connections, scripts
Judge = Callable[..., None]
Handle = Callable[[bytes], Awaitable[None]]


class ByHand:
    """redis-py: a stream with a consumer group."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        self._consumer = os.urandom(4).hex()

    async def send(self, data: bytes) -> None:
        await self._client.xadd(self._name, {"d": data})

    async def send_many(self, items: list[bytes]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for item in items:
            pipeline.xadd(self._name, {"d": item})
        await pipeline.execute()

    async def work(self, handle: Handle) -> None:
        """Take a job, handle it, acknowledge it."""
        reply = None
        while not reply:
            reply = await self._client.xreadgroup(_GROUP, self._consumer, {self._name: ">"}, count=1, block=1000)
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        id_, fields = entries[0]
        await handle(fields[b"d"])
        await self._client.xack(self._name, _GROUP, id_)


class WithAipc:
    """A channel, and its leases."""

    def __init__(self, channel: Any) -> None:
        self.send, self.send_many, self._lease = channel.send, channel.send_many, channel.lease

    async def work(self, handle: Handle) -> None:
        """Take a job, handle it, remove it."""
        async with self._lease() as job:
            await handle(job.data)


class Contestant:
    """One of the two, on a loop, at the server whose socket is `path`."""

    def __init__(self, kind: str, loop: str, path: str) -> None:
        self.kind, self.path = kind, path
        self.loop = "asyncio" if kind == "redis-py" and loop == "trio" else loop

    @asynccontextmanager
    async def queues(self, *names: str) -> AsyncIterator[list[Any]]:
        """Queues of those names."""
        async with contextlib.AsyncExitStack() as stack:
            if self.kind == "aipc":
                urls = [f"redis+unix:{self.path}?name={name}" for name in names]
                yield [WithAipc(await stack.enter_async_context(aipc.open_channel(url))) for url in urls]
                return
            client = await stack.enter_async_context(_client(self.path))
            for name in names:
                with contextlib.suppress(_response_error()):
                    await client.xgroup_create(name, _GROUP, id="0", mkstream=True)
            yield [ByHand(client, name) for name in names]


def _client(path: str) -> Any:
    import redis.asyncio

    return redis.asyncio.Redis(unix_socket_path=path)


def _response_error() -> type[Exception]:
    import redis

    return redis.ResponseError


async def _nothing(_: bytes) -> None:
    pass


def rate(contestant: Contestant) -> float:
    """Jobs a second, by many tasks of one process, from a queue that is full."""

    async def consume() -> float:
        left = _JOBS

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await queue.work(_nothing)

        async with contestant.queues(_new_name()) as (queue,):
            await queue.send_many([DATA] * _JOBS)
            start = perf_counter()
            async with anyio.create_task_group() as workers:
                for _ in range(_CONSUMERS):
                    workers.start_soon(worker)
            return _JOBS / (perf_counter() - start)

    return float(run(contestant.loop, consume))


def job_trip(contestant: Contestant) -> float:
    """p50 of one job at a time in one process: sent, taken, done. In µs."""

    async def trips() -> float:
        async with contestant.queues(_new_name()) as (queue,):

            async def trip() -> None:
                await queue.send(DATA)
                await queue.work(_nothing)

            return await _median(trip)

    return float(run(contestant.loop, trips))


def request(contestant: Contestant) -> float:
    """p50 of a request to another process and its answer, each a job. In µs."""
    names = _new_name(), _new_name()

    async def serve() -> None:
        async with contestant.queues(*names) as (requests, answers):
            for _ in range(_TRIPS + _FIRST):
                await requests.work(answers.send)

    async def ask() -> float:
        async with contestant.queues(*names) as (requests, answers):

            async def trip() -> None:
                await requests.send(DATA)
                await answers.work(_nothing)

            return await _median(trip)

    pid = child(run, contestant.loop, serve)
    try:
        return float(run(contestant.loop, ask))
    finally:
        os.waitpid(pid, 0)


async def _median(trip: Callable[[], Awaitable[None]]) -> float:
    for _ in range(_FIRST):
        await trip()
    samples = []
    for _ in range(_TRIPS):
        start = perf_counter()
        await trip()
        samples.append(perf_counter() - start)
    return statistics.median(samples) * 1e6


def _new_name() -> str:
    return os.urandom(6).hex()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server that keeps nothing; its socket's path."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/redis.sock"
        command = ["redis-server", "--port", "0", "--save", "", "--unixsocket", path, "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                assert process.poll() is None, "redis-server did not start"
                sleep(0.01)
            yield path
        finally:
            process.kill()
            process.wait()


def judge_all(judge: Judge, rounds: int) -> None:
    """All promises, in well under a minute; without redis-server nothing is measured."""
    if shutil.which("redis-server") is None:
        print("redis: not measured, there is no redis-server (apt-get install redis-server)")
        return
    with server() as path:
        for loop in LOOPS:
            pair = [Contestant(kind, loop, path) for kind in ("redis-py", "aipc")]
            figures = alternate(pair, rate, min(rounds, 3))
            judge(f"{_CONSUMERS} consumers, {loop}", *figures, "jobs/s", _LEAST_RATE, at_most=False)
            figures = alternate(pair, job_trip, rounds)
            judge(f"one job at a time, {loop}", *figures, "µs", _MOST_RATIO, at_most=True)
            figures = alternate(pair, request, rounds)
            judge(f"request and answer, {loop}", *figures, "µs", _MOST_RATIO, at_most=True)
            _judge_locks(judge, loop, path)


def _judge_locks(judge: Judge, loop: str, path: str) -> None:
    bare = redis_locks.by_hand("asyncio" if loop == "trio" else loop, path)
    p99 = redis_locks.hand_over(loop, path)
    judge(f"lock, hand-over p99, {loop}", bare, p99, "ms", max(2.0, _MOST_HAND_OVER / bare), at_most=True)
    judge(f"lock, past a dead waiter, {loop}", 1, redis_locks.dead_waiter(loop, path), "ms", _MOST_DEAD, at_most=True)
