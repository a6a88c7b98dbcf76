"""`python -m benchmarks.mechanisms`: 64 bytes to another process and back, by mechanism, in µs: docs/which-mechanism.md.

The other end is aipc, or a program in blocking calls. Nothing is judged: where processors are busy, a wait can't spin.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import posix_ipc
import sysv_ipc

import aipc

DATA, TRIPS, ROUNDS = b"x" * 64, 1_000, 5
LISTENING = {
    "shm": "shm:{0}/shm",
    "unix": "unix:{0}/unix",
    "unix+seqpacket": "unix+seqpacket:{0}/packet",
    "tcp": "tcp://127.0.0.1:39734",
}
DATAGRAMS = {"unix+dgram": ("{0}/here", "{0}/there"), "udp": ("127.0.0.1:39735", "127.0.0.1:39736")}
QUEUES = {"fifo": ("{0}/back", "{0}/forth"), "sysv-mq": ("0x61697063", "0x61697064"), "posix-mq": ("/aipc-back", "/aipc-forth")}
FAMILIES = {"unix": socket.AF_UNIX, "unix+seqpacket": socket.AF_UNIX, "unix+dgram": socket.AF_UNIX}
KINDS = {"unix+seqpacket": socket.SOCK_SEQPACKET, "unix+dgram": socket.SOCK_DGRAM, "udp": socket.SOCK_DGRAM}


def up() -> None:
    """Tell the parent that it can connect."""
    print("up", flush=True)


@asynccontextmanager
async def ends(scheme: str, directory: str, *, first: bool) -> AsyncIterator[tuple[aipc.Channel, Callable[[bytes], Any]]]:
    """What receives, and what sends."""
    if scheme in LISTENING:
        url = LISTENING[scheme].format(directory)
        if first:
            async with aipc.open_channel(url) as channel:
                yield channel, channel.send
        else:
            async with aipc.listen(url) as listener:
                up()
                async with await listener.accept() as channel:
                    yield channel, channel.send
        return
    mine, theirs = (DATAGRAMS | QUEUES)[scheme][:: 1 if first else -1]
    mine, theirs = mine.format(directory), theirs.format(directory)
    if scheme in DATAGRAMS:
        async with aipc.open_channel(f"{scheme}:?bind={mine}") as channel:
            if not first:
                up()
            to = (theirs.split(":")[0], int(theirs.split(":")[1])) if scheme == "udp" else theirs
            yield channel, lambda data: channel.send(data, to=to)
        return
    ways = (
        ({"direction": "receive", "keep_open": True}, {"direction": "send", "keep_open": True})
        if scheme == "fifo"
        else ({}, {})
    )
    owned = {"create": True, "unlink": first}
    async with (
        aipc.open_channel(f"{scheme}:{mine}", **ways[0], **owned) as receiver,
        aipc.open_channel(f"{scheme}:{theirs}", **ways[1], **owned) as sender,
    ):
        if not first:
            up()
        yield receiver, sender.send


async def answer(scheme: str, directory: str) -> None:
    """The other end, with aipc."""
    async with ends(scheme, directory, first=False) as (receiver, send):
        async for data in receiver:
            await send(data)


def answer_blocking(scheme: str, directory: str) -> None:
    """The other end, without aipc, in blocking calls. It is killed."""
    if scheme in QUEUES:
        back, forth = (name.format(directory) for name in QUEUES[scheme])
        receive, send = BLOCKING[scheme](back, forth)
        up()
        while True:
            send(receive())
    sock = socket.socket(FAMILIES.get(scheme, socket.AF_INET), KINDS.get(scheme, socket.SOCK_STREAM))
    address = DATAGRAMS[scheme][1] if scheme in DATAGRAMS else LISTENING[scheme].split(":", 1)[1]
    address = address.format(directory).removeprefix("//")
    sock.bind(address if scheme in FAMILIES else (address.split(":")[0], int(address.split(":")[1])))
    if scheme in DATAGRAMS:
        up()
        while True:
            sock.sendto(*sock.recvfrom(1000))
    sock.listen()
    up()
    connection, _ = sock.accept()
    if scheme == "tcp":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(1000):
        connection.sendall(data)


def _fifo(back: str, forth: str) -> tuple[Callable[[], bytes], Callable[[bytes], Any]]:
    for path in (back, forth):
        os.mkfifo(path, 0o600)
    reading, writing = os.open(forth, os.O_RDWR), os.open(back, os.O_RDWR)
    return lambda: os.read(reading, 1000), lambda data: os.write(writing, data)


def _sysv(back: str, forth: str) -> tuple[Callable[[], bytes], Callable[[bytes], Any]]:
    queues = [sysv_ipc.MessageQueue(int(key, 16), sysv_ipc.IPC_CREAT, mode=0o600) for key in (back, forth)]
    return lambda: queues[1].receive()[0], queues[0].send


def _posix(back: str, forth: str) -> tuple[Callable[[], bytes], Callable[[bytes], Any]]:
    queues = [posix_ipc.MessageQueue(name, posix_ipc.O_CREAT, mode=0o600) for name in (back, forth)]
    return lambda: queues[1].receive()[0], queues[0].send


BLOCKING = {"fifo": _fifo, "sysv-mq": _sysv, "posix-mq": _posix}


async def trips(scheme: str, directory: str) -> list[float]:
    """Seconds of each round trip."""
    taken = []
    async with ends(scheme, directory, first=True) as (receiver, send):
        for _ in range(TRIPS):
            began = perf_counter()
            await send(DATA)
            await receiver.receive()
            taken.append(perf_counter() - began)
    return taken[TRIPS // 5 :]


def measure(scheme: str, other: str) -> float:
    """The median of one round, in µs."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.mechanisms", other, scheme, directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as peer:  # its end is an error
            try:
                assert peer.stdout.readline() == b"up\n"
                return 1e6 * statistics.median(asyncio.run(trips(scheme, directory)))
            finally:
                peer.kill()


def main() -> None:
    print(f"{'':16}{'aipc':>10}{'blocking':>10}")
    for scheme in (*LISTENING, *DATAGRAMS, *QUEUES):
        others = ["aipc"] if scheme == "shm" else ["aipc", "blocking"]
        figures = [statistics.median(measure(scheme, other) for _ in range(ROUNDS)) for other in others]
        print(f"{scheme:16}" + "".join(f"{figure:10.1f}" for figure in figures), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["aipc"]:
        asyncio.run(answer(*sys.argv[2:]))
    elif sys.argv[1:2] == ["blocking"]:
        answer_blocking(*sys.argv[2:])
    else:
        main()
