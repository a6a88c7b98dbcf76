"""`python -m benchmarks.services.calls`: calls of 64 bytes over a Unix socket between two processes, against grpc.aio and pyzmq.

Each contestant is measured in turn, within one run; exit status 1 if a promise does not hold.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import anyio
import msgspec
import uvloop

import aipc
from aipc import rpc

Call = Callable[[bytes], Awaitable[Any]]
DATA = b"x" * 64
ROUNDS, CALLS, IN_FLIGHT = 5, 1_000, 100


async def serve_aipc(path: str) -> None:
    router = rpc.Router()

    @router.method
    async def echo(data: bytes) -> bytes:
        return data

    async with aipc.listen(f"unix:{path}") as listener:
        print("up", flush=True)
        await rpc.serve(listener, router)


@asynccontextmanager
async def aipc_client(path: str) -> AsyncIterator[Call]:
    async with rpc.connect(f"unix:{path}") as client:
        yield lambda data: client.call("echo", data)


async def serve_grpc(path: str) -> None:
    import grpc

    async def echo(request: bytes, context: object) -> bytes:
        return request

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"echo": method}),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def grpc_client(path: str) -> AsyncIterator[Call]:
    import grpc

    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        yield channel.unary_unary("/Echo/echo")


async def serve_zmq(path: str) -> None:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(f"ipc://{path}")
        print("up", flush=True)
        while True:
            *envelope, request = await socket.recv_multipart()
            await socket.send_multipart([*envelope, msgspec.msgpack.encode(msgspec.msgpack.decode(request))])


@asynccontextmanager
async def zmq_client(path: str) -> AsyncIterator[Call]:
    import zmq.asyncio

    waiting: dict[int, asyncio.Future[bytes]] = {}

    async def read() -> None:
        while True:
            number, data = msgspec.msgpack.decode(await socket.recv())
            waiting.pop(number).set_result(data)

    async def call(data: bytes) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting[id(future)] = future
        await socket.send(msgspec.msgpack.encode((id(future), data)))
        return await future

    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(f"ipc://{path}")
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(read())
            yield call
            reader.cancel()


SERVERS = {"aipc": serve_aipc, "grpc": serve_grpc, "zmq": serve_zmq}
CLIENTS = {"aipc": aipc_client, "grpc": grpc_client, "zmq": zmq_client}


async def measure(name: str, path: str) -> tuple[float, float]:
    """Microseconds of a round trip (median), and calls a second with many in flight."""
    async with CLIENTS[name](path) as call:
        for _ in range(200):
            await call(DATA)
        samples = []
        for _ in range(CALLS):
            start = perf_counter()
            await call(DATA)
            samples.append(perf_counter() - start)

        async def many() -> None:
            for _ in range(CALLS // 20):
                await call(DATA)

        start = perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.start_soon(many)
        return statistics.median(samples) * 1e6, IN_FLIGHT * (CALLS // 20) / (perf_counter() - start)


def run(name: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        command = [sys.executable, "-m", "benchmarks.services.calls", "serve", name, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            server.stdout.readline()
            try:
                return uvloop.run(measure(name, path))
            finally:
                server.kill()


def main() -> int:
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    for _ in range(ROUNDS):
        for name, row in figures.items():
            row.append(run(name))
    medians = {name: [statistics.median(column) for column in zip(*row, strict=True)] for name, row in figures.items()}
    for name, (trip, rate) in medians.items():
        print(f"{name:5} round trip {trip:7.1f} µs, {rate:8,.0f} calls/s with {IN_FLIGHT} in flight")
    trip, rate = medians["aipc"]
    promises = {
        "round trip, at most 1/8 of grpc.aio's": trip / medians["grpc"][0] <= 1 / 8,
        "round trip, below pyzmq's": trip < medians["zmq"][0],
        "calls a second, 10 times grpc.aio's": rate / medians["grpc"][1] >= 10,
    }
    for promise, kept in promises.items():
        print("ok    " if kept else "MISSED", promise)
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        uvloop.run(SERVERS[sys.argv[2]](sys.argv[3]))
    else:
        sys.exit(main())
