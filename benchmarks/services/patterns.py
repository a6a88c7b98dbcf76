"""The patterns of services: calls on a shared connection, several clients, a server that thinks, many connections.

Each figure is taken for aipc and for the streams of the same loop, in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import anyio
import trio

import aipc

from ..harness import child, run

NUMBER = struct.Struct(">I")
REQUEST = bytes(60)  # behind its number
Connection = Any


class AsyncioStream:
    """A length before each message, on asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(NUMBER.pack(len(data)) + data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        (length,) = NUMBER.unpack(await self.reader.readexactly(4))
        return await self.reader.readexactly(length)

    async def aclose(self) -> None:
        self.writer.close()


class TrioStream:
    """A length before each message, on trio's SocketStream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.rest, self.lock = stream, bytearray(), trio.Lock()

    async def send(self, data: bytes) -> None:
        async with self.lock:
            await self.stream.send_all(NUMBER.pack(len(data)) + data)

    async def receive(self) -> bytes:
        rest = self.rest
        while len(rest) < 4 or len(rest) < 4 + NUMBER.unpack_from(rest)[0]:
            data = await self.stream.receive_some(65536)
            if not data:
                raise anyio.EndOfStream
            rest += data
        end = 4 + NUMBER.unpack_from(rest)[0]
        message = bytes(rest[4:end])
        del rest[:end]
        return message

    async def aclose(self) -> None:
        await self.stream.aclose()


@dataclass(frozen=True)
class Contestant:
    """What serves and connects, on a loop."""

    kind: str
    loop: str

    @property
    def name(self) -> str:
        return f"{self.kind} on {self.loop}"

    async def serve(self, path: str, handler: Callable[[Connection], Awaitable[None]], ready: Callable[[], None]) -> None:
        """Serve until cancelled."""
        if self.kind == "aipc":
            async with aipc.listen(f"unix:{path}", backlog=4096) as listener:
                ready()
                await listener.serve(handler)
        elif self.loop == "trio":
            sock = trio.socket.socket(trio.socket.AF_UNIX)
            await sock.bind(path)
            sock.listen(4096)

            async def accepted(stream: trio.SocketStream) -> None:
                with contextlib.suppress(anyio.EndOfStream, trio.BrokenResourceError):
                    await handler(TrioStream(stream))

            ready()
            await trio.serve_listeners(accepted, [trio.SocketListener(sock)])
        else:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    await handler(AsyncioStream(reader, writer))
                writer.close()

            async with await asyncio.start_unix_server(connected, path, backlog=4096) as server:
                ready()
                await server.serve_forever()

    @contextlib.asynccontextmanager
    async def connect(self, path: str) -> AsyncIterator[Connection]:
        if self.kind == "aipc":
            async with aipc.open_channel(f"unix:{path}") as channel:
                yield channel
            return
        if self.loop == "trio":
            connection: Any = TrioStream(await trio.open_unix_socket(path))
        else:
            connection = AsyncioStream(*await asyncio.open_unix_connection(path))
        try:
            yield connection
        finally:
            await connection.aclose()


async def echo(connection: Connection) -> None:
    """One task answers one request after the other."""
    while True:
        await connection.send(await connection.receive())


@contextlib.asynccontextmanager
async def starter(loop: str) -> AsyncIterator[Callable[..., Any]]:
    """What starts a task, as people write it on that loop: anyio's tasks cost asyncio's streams half as much again, and aipc too."""
    if loop == "trio":
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon
    else:
        async with asyncio.TaskGroup() as group:
            yield lambda function, *arguments: group.create_task(function(*arguments))


class TrioAnswer:
    """A trio.Event that is awaited, and set, as asyncio's Future is."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def set_result(self, result: None) -> None:
        self.event.set()

    def __await__(self) -> Generator[Any, None, None]:
        return self.event.wait().__await__()


def spawning(loop: str, think: float) -> Callable[[Connection], Awaitable[None]]:
    """A server with a task for each request, which thinks before it answers."""

    async def answer(connection: Connection, request: bytes) -> None:
        if think:
            await anyio.sleep(think)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            await connection.send(request)

    async def handler(connection: Connection) -> None:
        async with starter(loop) as start:
            while True:
                try:
                    request = await connection.receive()
                except (anyio.EndOfStream, asyncio.IncompleteReadError):
                    return
                start(answer, connection, request)

    return handler


class Caller:
    """Many calls in flight on one connection, matched by their numbers."""

    def __init__(self, connection: Connection, loop: str) -> None:
        self.connection = connection
        self.pending: dict[int, Any] = {}
        self.count = 0
        self.answer = TrioAnswer if loop == "trio" else asyncio.get_running_loop().create_future

    async def read(self) -> None:
        while True:
            answer = await self.connection.receive()
            self.pending.pop(NUMBER.unpack_from(answer)[0]).set_result(None)

    async def call(self) -> float:
        """Seconds from the request to its answer."""
        self.count += 1
        number = self.count
        self.pending[number] = answer = self.answer()
        start = perf_counter()
        await self.connection.send(NUMBER.pack(number) + REQUEST)
        await answer
        return perf_counter() - start


@dataclass(frozen=True)
class Pattern:
    """How clients call, and how the server answers."""

    name: str
    calls: int
    """Of each client process."""
    callers: int = 0
    """Tasks that call on one connection; 0: one task sends, and then receives."""
    clients: int = 1
    """Processes."""
    think: float = 0.0
    rate: float = 0.0
    """Calls a second that arrive at random, whether or not earlier ones are answered; 0: as soon as the last one is."""

    async def use(self, connection: Connection, loop: str) -> list[float]:
        if not self.callers and not self.rate:
            return await self.ping(connection)
        caller = Caller(connection, loop)
        samples: list[float] = []
        async with anyio.create_task_group() as reader:
            reader.start_soon(caller.read)
            async with starter(loop) as start:
                if self.rate:
                    await self.arrive(caller, start, samples)
                for _ in range(self.callers):
                    start(self.call, caller, samples)
            reader.cancel_scope.cancel()
        return samples

    async def ping(self, connection: Connection) -> list[float]:
        samples = []
        for _ in range(self.calls):
            start = perf_counter()
            await connection.send(REQUEST)
            await connection.receive()
            samples.append(perf_counter() - start)
        return samples

    async def call(self, caller: Caller, samples: list[float]) -> None:
        samples.extend([await caller.call() for _ in range(self.calls // self.callers)])

    async def arrive(self, caller: Caller, start: Callable[..., Any], samples: list[float]) -> None:
        """Timed from when each call was meant to be made: who is late because an earlier one hung counts that."""
        chance, due = random.Random(7), perf_counter()

        async def one(due: float) -> None:
            await caller.call()
            samples.append(perf_counter() - due)

        for _ in range(self.calls):
            due += chance.expovariate(self.rate)
            await anyio.sleep(max(0.0, due - perf_counter()))
            start(one, due)


PATTERNS = (
    Pattern("one task", 4_000),
    Pattern("calls, one in flight", 4_000, callers=1),
    Pattern("calls", 4_000, callers=4),
    Pattern("calls, 100 in flight", 20_000, callers=100),
    Pattern("four clients", 2_500, clients=4),
    Pattern("server thinks 1 ms", 500, think=1e-3),
    Pattern("Poisson arrivals, 1,000/s", 1_000, rate=1_000),
)


@dataclass(frozen=True)
class Figures:
    """Of one run: µs."""

    p50: float
    p99: float
    processor: float
    """Of all processes, user and system, a call."""


WHAT = ("p50", "p99", "processor")


def measure(contestant: Contestant, pattern: Pattern) -> Figures:
    """Run the server in one process and each client in another."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        started, ready = os.pipe()
        server = child(_serve, contestant, pattern, path, ready)
        assert os.read(started, 1) == b"r"
        before = processor_time(server)
        results = [f"{directory}/{number}.json" for number in range(pattern.clients)]
        clients = [child(_use, contestant, pattern, path, result) for result in results]
        for client in clients:
            os.waitid(os.P_PID, client, os.WEXITED | os.WNOWAIT)
        processor = processor_time(server) - before
        os.kill(server, 15)
        for pid, expected in ((server, 15), *((client, 0) for client in clients)):
            _, status = os.waitpid(pid, 0)
            assert status == expected, f"process {pid} ended with {status}"
        reports = [json.loads(Path(result).read_bytes()) for result in results]
        samples = [sample for report in reports for sample in report["samples"]]
        processor += sum(report["processor"] for report in reports)
        os.close(started)
        os.close(ready)
    cuts = statistics.quantiles(samples, n=100)
    return Figures(cuts[49] * 1e6, cuts[98] * 1e6, processor / len(samples) * 1e6)


def processor_time(pid: int) -> float:
    """Seconds that its main thread has run (proc(5))."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) * 1e-9


def _serve(contestant: Contestant, pattern: Pattern, path: str, ready: int) -> None:
    handler = spawning(contestant.loop, pattern.think) if pattern.callers or pattern.rate or pattern.think else echo
    run(contestant.loop, contestant.serve, path, handler, lambda: os.write(ready, b"r"))


def _use(contestant: Contestant, pattern: Pattern, path: str, result: str) -> None:
    async def main() -> dict[str, Any]:
        async with contestant.connect(path) as connection:
            before = process_time()
            return {"samples": await pattern.use(connection, contestant.loop), "processor": process_time() - before}

    Path(result).write_text(json.dumps(run(contestant.loop, main)))


def alternate_kinds(loop: str, pattern: Pattern, rounds: int) -> dict[str, tuple[float, float]]:
    """By "p50", "p99" and "processor": the median of the loop's own streams, and aipc's, measured in turn."""
    figures: dict[str, list[Figures]] = {"streams": [], "aipc": []}
    for _ in range(rounds):
        for kind, seen in figures.items():
            seen.append(measure(Contestant(kind, loop), pattern))
    medians = {kind: {what: _median(seen, what) for what in WHAT} for kind, seen in figures.items()}
    return {what: (medians["streams"][what], medians["aipc"][what]) for what in WHAT}


def _median(seen: list[Figures], what: str) -> float:
    return statistics.median(getattr(one, what) for one in seen)
