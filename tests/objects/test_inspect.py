"""`aipc.inspect`: who holds an object, who waits, and what is probably wrong. The others are processes of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._inspect.deadlock import deadlocks
from aipc._sys.proc.unix_diag import unix_sockets
from aipc.testing.expect import until

from .. import peers
from ..redis.peers.servers import shared_server
from ..subjects import new_key, new_name

TAKE = """
import contextlib, sys
import anyio
import aipc

async def main(*urls):
    async with contextlib.AsyncExitStack() as stack:
        for url in urls:
            print("takes", flush=True)
            await stack.enter_async_context(aipc.lock(url))
            print("holds", flush=True)
            sys.stdin.readline()

anyio.run(main, *sys.argv[1:])
"""


@contextmanager
def taking(*urls: str) -> Iterator[peers.Peer]:
    """A process that takes the locks one by one, the next one at each line of input. It is killed at the end."""
    with peers.python(TAKE, *urls) as running:
        try:
            assert peers.said(running) == "takes"
            yield running
        finally:
            running.kill()
            running.wait()


@contextmanager
def holding(*urls: str) -> Iterator[peers.Peer]:
    """Such a process, which holds the first one."""
    with taking(*urls) as running:
        assert peers.said(running) == "holds"
        yield running


def pids(found: tuple[aipc.ProcessInfo, ...]) -> list[int]:
    return [process.pid for process in found]


def eventually(url: str, holds: Callable[[aipc.Inspection], object]) -> aipc.Inspection:
    """Inspect it until that is so: another process is on its way to it."""
    for _ in range(3000):
        found = aipc.inspect(url)
        if holds(found):
            return found
        anyio.run(anyio.sleep, 0.01)
    raise AssertionError(found)


LOCKS = {
    "flock": lambda place: f"flock:{place}/lock",
    "fcntl": lambda place: f"fcntl:{place}/lock?start=5&length=1",
    "fcntl of a process": lambda place: f"fcntl:{place}/lock?owner=process",
    "sysv-sem": lambda place: f"sysv-sem:{new_key()}",
    "posix-sem": lambda place: f"posix-sem:{new_name()}?robust=1",
    "redis": lambda place: shared_server().url(new_name().strip("/")),
}


@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_tells_its_holder_and_who_waits(kind: str, place: Path) -> None:
    url, began = LOCKS[kind](place), int(time.time())
    with contextlib.ExitStack() as stack:
        if "sem" in kind:
            stack.enter_context(made(url))
        with holding(url) as holder, taking(url) as waiter:
            found = eventually(url, lambda found: waiter.pid in pids(found.waiters))
            assert pids(found.holders) == [holder.pid]
            assert found.holders[0].command
            if since := {"sysv-sem": "last_operation", "posix-sem": "held_since"}.get(kind):
                assert began - 1 <= found.state[since] <= time.time()  # the kernel's clock may be some milliseconds behind
            assert any(str(waiter.pid) in finding or "wait until" in finding for finding in found.findings)
        if kind == "posix-sem":
            assert "whoever opens it with robust=1 takes it" in aipc.inspect(url).findings[0]
        elif kind != "redis":
            assert not eventually(url, lambda found: not found.waiters and not found.holders).findings


@contextmanager
def made(url: str) -> Iterator[None]:
    """The semaphore exists meanwhile."""

    async def make() -> None:
        await (await aipc.open_lock(url, create=True)).aclose()

    anyio.run(make)
    try:
        yield
    finally:
        kind, _, name = url.partition("?")[0].partition(":")
        aipc.remove_object(kind, name)


@pytest.mark.usefixtures("all_features")
def test_two_processes_that_wait_for_each_other(place: Path, key: str) -> None:
    one, two = f"flock:{place}/lock", f"sysv-sem:{key}"
    with made(two), holding(one, two) as first, holding(two, one) as second:
        for process in (first, second):
            peers.tell(process, "")
        eventually(one, lambda found: found.waiters)
        eventually(two, lambda found: found.waiters)
        (said,) = deadlocks([aipc.inspect(one), aipc.inspect(two)])
        assert said.startswith("deadlock: ")
        assert f"process {first.pid} waits for {two}, held by {second.pid}" in said
        assert f"process {second.pid} waits for {one}, held by {first.pid}" in said
        assert not [*deadlocks([aipc.inspect(one)])]


@pytest.mark.anyio
async def test_a_program_that_sleeps_in_the_kernel(key: str) -> None:
    if os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("system calls have other numbers here")
    url = f"sysv-mq:{key}"
    async with aipc.open_channel(url, create=True, unlink=True):
        with peers.python(f"import sysv_ipc; sysv_ipc.MessageQueue({key}).receive(type=5)") as sleeper:
            await until(lambda: aipc.inspect(url).waiters)
            found = aipc.inspect(url)
            assert pids(found.waiters) == [sleeper.pid]
            assert found.findings == (f"process {sleeper.pid} waits for a message",)
            sleeper.kill()
            sleeper.wait()


def test_the_dead_leave_something(key: str) -> None:
    url = f"sysv-sem:{key}?undo=0"
    with made(url), holding(url) as holder:
        holder.kill()
        holder.wait()
        found = eventually(url, lambda found: not found.holders)
        assert f"process {holder.pid}, which changed it last, has ended" in found.findings[0]
    name = new_name()
    with made(f"posix-sem:{name}"):
        with holding(f"posix-sem:{name}"):
            assert not aipc.inspect(f"posix-sem:{name}").findings
        assert "no process has it open" in aipc.inspect(f"posix-sem:{name}").findings[0]


@pytest.mark.usefixtures("all_features")
def test_a_full_queue(key: str) -> None:
    async def fill(url: str) -> None:
        async with aipc.open_channel(url, create=True, unlink=True) as queue:
            with pytest.raises(anyio.WouldBlock):
                send_all(queue)
            found = aipc.inspect(url)
            assert "full: nobody receives" in found.findings[0]
            assert found.state["messages"] > 1
            assert found.limits.get("messages", 10) == 10
            assert "last_receive" not in found.state
            while found.findings:
                await queue.receive()
                found = aipc.inspect(url)
            assert found.state["messages"] > 1
            if url.startswith("sysv-mq"):
                assert found.state["last_send"] <= found.state["last_receive"] <= time.time()
                await queue.receive_many()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(queue.receive)
                    await until(lambda: aipc.inspect(url).waiters)
                    assert aipc.inspect(url).findings == (f"process {os.getpid()} waits for a message",)
                    tasks.cancel_scope.cancel()

    for url in (f"sysv-mq:{key}", f"posix-mq:{new_name()}"):
        anyio.run(fill, url)


def send_all(channel: aipc.Channel) -> None:
    while True:
        channel.send_nowait(bytes(1000))


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket", "tcp"])
def test_a_peer_that_never_reads(scheme: str, place: Path) -> None:
    try:
        unix_sockets()
    except OSError as error:
        peers.give_up(f"the kernel has no socket monitor: {error}")

    async def connect() -> None:
        async with aipc.listen(f"{scheme}:{place}/socket" if scheme != "tcp" else "tcp://127.0.0.1:0") as listener:
            url = f"{scheme}:{place}/socket"
            if scheme == "tcp":
                url = f"tcp://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            with peers.python(CONNECT, url) as client:
                assert peers.said(client) == "connected"
                assert "1 connection waits until" in aipc.inspect(url).findings[0]
                async with await listener.accept() as channel:
                    with pytest.raises(anyio.WouldBlock):
                        send_all(channel)
                    found = aipc.inspect(url)
                    assert pids(found.holders) == [os.getpid()]
                    (connection,) = found.connections
                    assert connection.server is not None
                    assert connection.client is not None
                    assert (connection.server.pid, connection.client.pid) == (os.getpid(), client.pid)
                    assert f"process {client.pid} does not read" in found.findings[0]
                client.kill()
                client.wait()

    anyio.run(connect)


CONNECT = """
import sys
import anyio
import aipc

async def main(url):
    async with aipc.open_channel(url):
        print("connected", flush=True)
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


def test_a_tcp_connection_that_has_ended() -> None:
    """The kernel remembers it for a minute (TIME_WAIT), but nobody has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert [row[3] for row in rows if row[1].endswith(f":{port:04X}")] == ["0A", "06"]
        assert not aipc.inspect(f"tcp://127.0.0.1:{port}").connections


def test_datagrams_that_nobody_reads() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        assert pids(aipc.inspect(url).holders) == [os.getpid()]
        for _ in range(1000):
            sender.sendto(bytes(1000), receiver.getsockname())
        found = aipc.inspect(url)
        assert found.state["dropped"] > 0
        assert "were dropped" in found.findings[0]
    assert "nobody receives there" in aipc.inspect(url).findings[0]


def test_files_that_were_left(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{place}/socket")
        stale.listen()
        assert not aipc.inspect(f"unix:{place}/socket").findings
    assert aipc.inspect(f"unix:{place}/socket").findings[0].startswith("stale: ")
    os.mkfifo(place / "fifo")
    assert aipc.inspect(f"fifo:{place}/fifo").findings == ("no process has it open",)


def test_jobs(place: Path) -> None:
    url = f"jobs:{place}/jobs"

    async def use() -> None:
        async with aipc.open_jobs(url, create=True) as queue:
            await queue.send(b"one")
            await queue.send(b"two")
            assert aipc.inspect(url).findings == ("2 jobs are ready, and no process has leased one",)
            async with queue.lease():
                found = aipc.inspect(url)
                assert (found.state["ready"], found.state["leased"]) == (1, 1)
                assert pids(found.holders) == [os.getpid()]
                assert pids(found.users) == [os.getpid()]
            await queue.send(b"still works")

    anyio.run(use)
    assert aipc.inspect(url).state == {"ready": 2, "leased": 0, "dead": 0, "delayed": 0}
    (place / "plain").write_text("text")
    with pytest.raises(aipc.WrongObject):
        aipc.inspect(f"jobs:{place}/plain")


@pytest.mark.anyio
async def test_a_queue_on_a_server() -> None:
    url = shared_server().url(new_name().strip("/"))
    assert "nothing is stored there" in aipc.inspect(url).findings[0]
    async with aipc.open_channel(url) as queue:
        await queue.send(b"one")
        await queue.send(b"two")
        await queue.receive()
        assert aipc.inspect(url).state["ready"] == 1
        await queue.receive()


@pytest.mark.anyio
async def test_looking_drops_no_lock_of_this_process(place: Path) -> None:
    url = f"fcntl:{place}/lock?owner=process"
    async with aipc.lock(url):
        assert pids(aipc.inspect(url).holders) == [os.getpid()]
        assert pids(aipc.inspect(url).holders) == [os.getpid()]


@pytest.mark.anyio
async def test_abstract_names_and_relative_paths(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for url in (f"unix:@aipc-test-{os.getpid()}", "unix:socket"):
        async with aipc.listen(url, backlog=7):
            found = aipc.inspect(url)
            assert pids(found.holders) == [os.getpid()]
            assert (found.state["pending"], found.limits["pending"]) == (0, 7)
        if "@" in url:
            assert aipc.inspect(url).holders == ()


def test_a_circle_of_three_is_said_once() -> None:
    def lock(url: str, holder: int, *waiters: int) -> aipc.Inspection:
        named = [aipc.ProcessInfo(pid, "") for pid in waiters]
        return aipc.Inspection(url, (aipc.ProcessInfo(holder, ""),), tuple(named))

    circle = [lock("flock:/a", 1, 3, 9), lock("flock:/b", 2, 1), lock("flock:/c", 3, 2)]
    assert [*deadlocks(circle)] == [
        "deadlock: process 1 waits for flock:/b, held by 2; process 2 waits for flock:/c, held by 3; "
        "process 3 waits for flock:/a, held by 1"
    ]
    assert not [*deadlocks(circle[:2])]
    assert not [*deadlocks([lock("flock:/a", 1, 1)])]  # tasks of one process, which take turns
