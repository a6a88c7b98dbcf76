"""A server's processor time a request, with many connections: the clients are plain sockets in another process."""

from __future__ import annotations

import os
import select
import signal
import socket
import tempfile
from time import perf_counter

from .harness import child, raise_descriptor_limit, run
from .services.patterns import NUMBER, REQUEST, Contestant, echo, processor_time

FRAME = NUMBER.pack(len(REQUEST)) + REQUEST


def clients(path: str, connections: int, requests: int, done: int) -> None:
    """Each connection sends its next request when it has its answer; timed once all have had one.

    A server of asyncio's accepts one connection in each turn of its loop: it would serve the first ones only, again and again.
    """
    raise_descriptor_limit()
    socks = {}
    poll = select.epoll()
    for _ in range(connections):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    for fd in socks:
        os.write(fd, FRAME)
    for _ in socks:
        ((fd, _),) = poll.poll(maxevents=1)
        os.read(fd, 4096)
    os.write(done, b"c")
    left, start = requests, perf_counter()
    for fd in socks:
        os.write(fd, FRAME)
    while left > 0:
        for fd, _ in poll.poll():
            os.read(fd, 4096)
            os.write(fd, FRAME)
            left -= 1
    os.write(done, f"{requests / (perf_counter() - start)}\n".encode())
    signal.pause()


def serve(contestant: Contestant, path: str, ready: int) -> None:
    """Until it is killed."""
    raise_descriptor_limit()
    run(contestant.loop, contestant.serve, path, echo, lambda: os.write(ready, b"r"))


def measure(contestant: Contestant, connections: int, requests: int) -> tuple[float, float]:
    """The server's µs of processor time a request, and requests a second."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        started, ready = os.pipe()
        server = child(serve, contestant, path, ready)
        assert os.read(started, 1) == b"r"
        results, done = os.pipe()
        client = child(clients, path, connections, requests, done)
        assert os.read(results, 1) == b"c"
        before = processor_time(server)
        rate = float(os.read(results, 100))
        spent = processor_time(server) - before
        for pid in (server, client):  # first the one that would report its peers' end
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (started, ready, results, done):
            os.close(fd)
    return spent / requests * 1e6, rate
