"""`python -m benchmarks.services.topics`: one publisher, five subscribers, each in a process of its own, 64 bytes, against pyzmq's PUB and SUB.

Each contestant publishes as fast as it can, for a second or two, in turn and within one run. What counts is how many messages a
subscriber gets a second; those that it missed, because it is slower than the publisher, do not count.
"""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import uvloop

import aipc

DATA = b"x" * 64
SUBSCRIBERS, SECONDS, ROUNDS = 5, 2.0, 3
_PROMISED = 500_000
_FACTOR = 5

Receive = Callable[[], Awaitable[object]]


async def publish_aipc(path: str) -> int:
    async with aipc.open_publisher(f"shm:{path}") as publisher:
        await publisher.wait_subscribers(SUBSCRIBERS)
        count, end = 0, perf_counter() + SECONDS
        while perf_counter() < end:
            for _ in range(100):
                await publisher.publish("eur.usd", DATA)
            count += 100
        await publisher.publish("end", b"")
        await publisher.flush()
        input()
    return count


@asynccontextmanager
async def subscribe_aipc(path: str) -> AsyncIterator[Receive]:
    async with aipc.open_subscriber(f"shm:{path}") as subscriber:
        yield subscriber.receive


async def publish_zmq(path: str) -> int:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # tell of each subscriber, and not only of new topics
        socket.bind(f"ipc://{path}")
        for _ in range(SUBSCRIBERS):
            await socket.recv()
        count, end = 0, perf_counter() + SECONDS
        while perf_counter() < end:
            for _ in range(100):
                await socket.send_multipart((b"eur.usd", DATA))
            count += 100
        while not select.select([sys.stdin], [], [], 0.01)[0]:  # a full queue drops it
            await socket.send_multipart((b"end", b""))
    return count


@asynccontextmanager
async def subscribe_zmq(path: str) -> AsyncIterator[Receive]:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.connect(f"ipc://{path}")
        yield socket.recv_multipart


PUBLISH = {"aipc": publish_aipc, "zmq": publish_zmq}
SUBSCRIBE = {"aipc": subscribe_aipc, "zmq": subscribe_zmq}


async def receive(name: str, path: str) -> float:
    """Messages a second, from the first to the last one."""
    async with SUBSCRIBE[name](path) as next_message:
        await next_message()
        count, start = 0, perf_counter()
        while True:
            topic = (await next_message())[0]  # type: ignore[index]
            if topic in ("end", b"end"):
                return count / (perf_counter() - start)
            count += 1


def measure(name: str) -> tuple[float, float]:
    """Messages a second: published, and got by the median subscriber."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.services.topics"]
        path = f"{directory}/topics"
        publisher = subprocess.Popen([*command, "publish", name, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        subscribers = [
            subprocess.Popen([*command, "subscribe", name, path], stdout=subprocess.PIPE) for _ in range(SUBSCRIBERS)
        ]
        got = [json.loads(subscriber.communicate()[0]) for subscriber in subscribers]
        published = json.loads(publisher.communicate(b"\n")[0]) / SECONDS
    return published, statistics.median(got)


def main() -> int:
    """Print what each contestant reached; 1 if the promise does not hold."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in PUBLISH}
    for _ in range(ROUNDS):
        for name, row in figures.items():
            row.append(measure(name))
    got = {}
    for name, row in figures.items():
        published, got[name] = (statistics.median(column) for column in zip(*row, strict=True))
        print(f"{name:5} publishes {published:9,.0f} messages/s, each of {SUBSCRIBERS} subscribers gets {got[name]:9,.0f}")
    kept = got["aipc"] >= _PROMISED or got["aipc"] >= _FACTOR * got["zmq"]
    print(f"{'ok' if kept else 'MISSED'}: {got['aipc'] / got['zmq']:.1f} times pyzmq's")
    return 0 if kept else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["publish"]:
        print(uvloop.run(PUBLISH[sys.argv[2]](sys.argv[3])))
    elif sys.argv[1:2] == ["subscribe"]:
        print(uvloop.run(receive(sys.argv[2], sys.argv[3])))
    else:
        sys.exit(main())
