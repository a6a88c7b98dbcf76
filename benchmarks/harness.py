"""Two processes, any loop, any two processors: the contestants take turns within one run, and medians are compared."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import statistics
import struct
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Protocol

import anyio
import trio
import uvloop

import aipc

LOOPS = ("asyncio", "uvloop", "trio")
TWO_CORES, ONE_CORE = (0, 1), (0, 0)
LENGTH = struct.Struct(">I")
Body = Callable[[Any], Awaitable[Any]]


class Contestant(Protocol):
    """Something that moves messages between two processes."""

    name: str
    loop: str

    async def serve(self, path: str, body: Body, ready: Callable[[], None]) -> None: ...

    async def connect(self, path: str, body: Body) -> Any: ...


class Streams:
    """asyncio's streams over a Unix socket, with a four-byte length before each message."""

    name, loop = "asyncio streams", "asyncio"

    def __init__(self, reader: asyncio.StreamReader | None = None, writer: asyncio.StreamWriter | None = None) -> None:
        self.reader, self.writer = reader, writer

    async def serve(self, path: str, body: Body, ready: Callable[[], None]) -> None:
        done = asyncio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await body(Streams(reader, writer))
            writer.close()
            done.set()

        async with await asyncio.start_unix_server(connected, path):
            ready()
            await done.wait()

    async def connect(self, path: str, body: Body) -> Any:
        reader, writer = await asyncio.open_unix_connection(path)
        result = await body(Streams(reader, writer))
        writer.close()
        return result

    async def send(self, data: bytes) -> None:
        self.writer.write(LENGTH.pack(len(data)) + data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        (length,) = LENGTH.unpack(await self.reader.readexactly(4))
        return await self.reader.readexactly(length)

    async def send_many(self, items: Sequence[bytes]) -> None:
        for item in items:
            await self.send(item)

    async def receive_many(self) -> list[bytes]:
        return [await self.receive()]


class Aipc:
    """A channel of aipc's by URL scheme."""

    def __init__(self, loop: str = "asyncio", scheme: str = "unix") -> None:
        self.name, self.loop, self.scheme = f"aipc {scheme} ({loop})", loop, scheme

    async def serve(self, path: str, body: Body, ready: Callable[[], None]) -> None:
        async with aipc.listen(f"{self.scheme}:{path}") as listener:
            ready()
            async with await listener.accept() as channel:
                await body(channel)

    async def connect(self, path: str, body: Body) -> Any:
        async with aipc.open_channel(f"{self.scheme}:{path}") as channel:
            return await body(channel)


def run(loop: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Run an async function on one of the three loops."""
    if loop == "trio":
        return trio.run(function, *arguments)
    if loop == "uvloop":
        return uvloop.run(function(*arguments))
    return asyncio.run(function(*arguments))


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Only this processor for the block, or all."""
    everywhere = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def child(function: Callable[..., None], *arguments: Any) -> int:
    """Run `function` in a forked process (no loop runs yet); its pid."""
    pid = os.fork()
    if pid:
        return pid
    gc.freeze()  # a full collection of every contestant's modules takes 30 ms, and would be the p99 of whoever it meets
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on in the parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def apart(measure: Callable[[Any], float], contestant: Any) -> float:
    """`measure(contestant)` in a forked process: all figures begin with the same heap.

    Otherwise those that were measured before decide whether malloc(3) maps memory anew for each message: that makes asyncio's streams
    four times slower or faster.
    """
    reading, writing = os.pipe()
    pid = child(lambda: os.write(writing, json.dumps(measure(contestant)).encode()))
    os.close(writing)
    with open(reading, "rb") as file:
        result = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the measuring process ended with {status}"
    return float(json.loads(result))


def between(contestant: Contestant, cores: tuple[int | None, int | None], server: Body, client: Body) -> Any:
    """Run `server` in a second process on `cores[1]` and `client` here on `cores[0]`, None is any; the client's result."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        reading, writing = os.pipe()

        def other() -> None:
            with pinned(cores[1]):
                run(contestant.loop, contestant.serve, path, server, lambda: os.write(writing, b"r"))

        pid = child(other)
        os.close(writing)
        assert os.read(reading, 1) == b"r", "the second process did not start"
        os.close(reading)
        with pinned(cores[0]):
            result = run(contestant.loop, contestant.connect, path, client)
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the second process ended with {status}"
        return result


async def _import() -> None:
    """Use each mechanism that is measured, so that the processes that measure have nothing to import: that takes up to 50 ms."""
    with tempfile.TemporaryDirectory() as directory:
        for scheme in ("unix", "shm"):
            url = f"{scheme}:{directory}/{scheme}"
            async with aipc.listen(url) as listener, aipc.open_channel(url) as channel, await listener.accept() as other:
                await channel.send(b"")
                await other.receive()
    async with aipc.open_channel("sysv-mq:private") as queue:
        await queue.send(b"a")
        await queue.receive()
    async with anyio.create_task_group():
        await anyio.sleep(0)


def import_all() -> None:
    """Before the first process that measures is forked."""
    for loop in LOOPS:
        run(loop, _import)


def alternate(contestants: Sequence[Any], measure: Callable[[Any], float], rounds: int) -> list[float]:
    """Each contestant's median of `rounds` figures, measured in turn, each by a process of its own."""
    figures: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for contestant, row in zip(contestants, figures, strict=True):
            row.append(apart(measure, contestant))
    return [statistics.median(row) for row in figures]


def round_trip(
    contestant: Contestant, cores: tuple[int | None, int | None], rounds: int = 5_000, payload: bytes = b"x" * 64
) -> float:
    """p50 of a round trip, in µs."""

    async def echo(channel: Any) -> None:
        for _ in range(rounds):
            await channel.send(await channel.receive())

    async def ping(channel: Any) -> float:
        samples = []
        for _ in range(rounds):
            start = perf_counter()
            await channel.send(payload)
            await channel.receive()
            samples.append(perf_counter() - start)
        return statistics.median(samples) * 1e6

    return float(between(contestant, cores, echo, ping))


def one_way(contestant: Contestant, cores: tuple[int, int], messages: int = 200_000, payload: bytes = b"x" * 64) -> float:
    """Messages a second from `send_many` in one process to `receive_many` in another."""

    async def take(channel: Any) -> None:
        got, start = 0, perf_counter()
        while got < messages:
            got += len(await channel.receive_many())
        await channel.send(json.dumps(perf_counter() - start).encode())

    async def give(channel: Any) -> float:
        for _ in range(messages // 1_000):
            await channel.send_many([payload] * 1_000)
        return messages / float(json.loads(await channel.receive()))

    return float(between(contestant, cores, take, give))
