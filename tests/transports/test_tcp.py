"""TCP among real peers: socat, a C program and plain sockets, each way, over IPv4 and IPv6."""

from __future__ import annotations

import errno
import functools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

import aipc
from aipc.abc import Channel, Listener
from aipc.testing import CANCELLED, inject
from aipc.transports import inet_stream
from aipc.transports.inet import Resolved

from ..peers import compile_peer, process, said, tell
from ..subjects import CHANNELS

pytestmark = pytest.mark.anyio

HOSTS = ["127.0.0.1", "[::1]"]
FAMILIES = {"127.0.0.1": socket.AF_INET, "[::1]": socket.AF_INET6}


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_peer("tcp", tmp_path_factory)


def port_of(listener: Listener) -> int:
    port: int = listener.extra(SocketAttribute.local_port)
    return port


@asynccontextmanager
async def listening(host: str = "127.0.0.1", **options: Any) -> AsyncIterator[tuple[Listener, str]]:
    """A listener at a free port, and its URL."""
    with anyio.fail_after(20):
        async with aipc.listen(f"tcp://{host}:0", **options) as listener:
            yield listener, f"tcp://{host}:{port_of(listener)}"


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel that was accepted, and the plain socket at its other end."""
    async with listening(**options) as (listener, _):
        with socket.create_connection(("127.0.0.1", port_of(listener)), 10) as plain:
            async with await listener.accept() as channel:
                yield channel, plain


async def in_thread(function: Any, *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(functools.partial(function, *arguments))


async def open_patiently(url: str, **options: Any) -> Channel:
    """A channel to a peer that may not listen yet."""
    while True:
        try:
            return await aipc.open_channel(url, **options)
        except aipc.NobodyListens:
            await anyio.sleep(0.01)


def free_port(host: str) -> int:
    with socket.socket(FAMILIES[host]) as sock:
        sock.bind((host.strip("[]"), 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_c_client(framing: str, host: str, peer: Path) -> None:
    async with listening(host, framing=framing) as (listener, url):
        port = url.rpartition(":")[2]
        with process(str(peer), "connect", host.strip("[]"), port, framing, "from C") as client:
            async with await listener.accept() as channel:
                assert await channel.receive() == b"from C"
                await channel.send(b"from Python")
                await channel.send_eof()
                assert await in_thread(said, client) == "from Python"
                assert [message async for message in channel] == []


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_c_server(framing: str, host: str, peer: Path) -> None:
    with anyio.fail_after(20), process(str(peer), "listen", host.strip("[]"), framing, "from C") as server:
        port = await in_thread(said, server)
        async with aipc.open_channel(f"tcp://{host}:{port}", framing=framing) as channel:
            assert await channel.receive() == b"from C"
            await channel.send(b"from Python")
            await channel.send_eof()
            assert await in_thread(said, server) == "from Python"


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "TCP4"), ("[::1]", "TCP6")])
async def test_socat_server(host: str, kind: str) -> None:
    port = free_port(host)
    with anyio.fail_after(20), process("socat", f"{kind}-LISTEN:{port},bind={host}", "EXEC:cat"):
        async with await open_patiently(f"tcp://{host}:{port}", framing="none") as channel:
            sent = b"there and back again\n" * 10_000
            got = b""
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    await channel.send(sent)
                    await channel.send_eof()

                tasks.start_soon(send)
                async for chunk in channel:
                    got += chunk
            assert got == sent


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "TCP4"), ("[::1]", "TCP6")])
async def test_socat_client(host: str, kind: str) -> None:
    async with listening(host, framing="lines") as (listener, url):
        with process("socat", "-", f"{kind}:{url.removeprefix('tcp://')}") as client:
            async with await listener.accept() as channel:
                tell(client, "hello")
                assert await channel.receive() == b"hello"
                await channel.send(b"and good bye")
                assert await in_thread(said, client) == "and good bye"


async def test_one_shot_clients() -> None:
    """Each says one thing, ends its sending half, and reads until the end, as nc does."""

    async def handler(channel: Channel) -> None:
        async for line in channel:
            await channel.send(line.upper())

    def client(port: int, number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as plain, plain.makefile("rb") as answers:
            plain.sendall(b"one-shot %d" % number)  # the last line lacks its line feed
            plain.shutdown(socket.SHUT_WR)
            return answers.read()

    async with listening(framing="lines") as (listener, _), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        for number in range(100):
            assert await in_thread(client, port_of(listener), number) == b"ONE-SHOT %d\n" % number
        tasks.cancel_scope.cancel()


def reset(plain: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()


async def test_client_that_connects_and_resets(caplog: pytest.LogCaptureFixture) -> None:
    """It ends its own handler; the server goes on."""
    seen: list[object] = []

    async def handler(channel: Channel) -> None:
        try:
            await channel.send(await channel.receive())
        except Exception as error:
            seen.append(type(error))
            raise

    async with listening() as (listener, url), anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", port_of(listener)), 10)
            reset(plain)
        async with aipc.open_channel(url) as channel:
            await channel.send(b"still here?")
            assert await channel.receive() == b"still here?"
        tasks.cancel_scope.cancel()
    assert seen == [anyio.BrokenResourceError] * 20
    assert len([record for record in caplog.records if record.name == "aipc"]) == 20


async def test_reset_is_broken_both_ways() -> None:
    async with connected() as (channel, plain):
        plain.sendall(b"\0\0\0\x05first")
        assert await channel.receive() == b"first"
        reset(plain)
        with pytest.raises(anyio.BrokenResourceError, match="tcp://"):
            await channel.receive()
        with pytest.raises(anyio.BrokenResourceError, match="tcp://"):
            await channel.send(b"")


async def test_server_speaks_first() -> None:
    """What it says before the client asks is not lost."""
    with socket.create_server(("127.0.0.1", 0)) as server, anyio.fail_after(20):
        port = server.getsockname()[1]

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\0\0\0\x07welcome")

        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_thread, speak)
                async with aipc.open_channel(f"tcp://127.0.0.1:{port}") as channel:
                    assert [message async for message in channel] == [b"welcome"]


async def test_half_close() -> None:
    async with connected(framing="none") as (channel, plain):
        await channel.send(b"question")
        await channel.send_eof()
        with plain.makefile("rb") as file:
            assert file.read() == b"question"
        plain.sendall(b"answer")
        assert await channel.receive() == b"answer"
        with pytest.raises(anyio.ClosedResourceError):
            await channel.send(b"more")


@pytest.mark.parametrize("framing", ["none", "u32"])
async def test_peek(framing: str) -> None:
    """It shows the next message, again and again, and takes nothing."""
    async with connected(framing=framing) as (channel, plain):
        prefix = b"" if framing == "none" else b"\0\0\0\3"
        plain.sendall(prefix + b"one")
        assert [await channel.peek(), await channel.peek()] == [b"one", b"one"]
        plain.sendall(prefix + b"two")
        assert await channel.peek() == b"one"
        assert channel.statistics().messages_received == 0
        assert [await channel.receive(), await channel.peek(), await channel.receive()] == [b"one", b"two", b"two"]
        plain.shutdown(socket.SHUT_WR)
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await channel.peek()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()
        await channel.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await channel.peek()


async def test_cancelled_peek_takes_nothing(place: Path) -> None:
    async with CHANNELS["tcp"](place).open_pair() as (sender, receiver):
        cancelled = 0
        for attempt in range(500):
            message = b"%d" % attempt
            sent = False

            def suspended(number: int, parked: bool, message: bytes = message, ready_at: int = attempt // 5 % 5) -> None:
                nonlocal sent
                if (parked or number >= ready_at) and not sent:
                    sent = True
                    sender.send_nowait(message)

            outcome = await inject(receiver.peek(), attempt % 5, suspended=suspended)
            cancelled += outcome is CANCELLED
            if not sent:
                sender.send_nowait(message)
            assert outcome in (CANCELLED, message)
            assert await receiver.receive() == message
        assert cancelled > 50


async def test_peek_wakes_a_receiver() -> None:
    """What a peek read is the receiver's, who waits in another task."""
    async with connected() as (channel, plain), anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await channel.receive())

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        plain.sendall(b"\0\0\0\3one")
        assert await channel.peek() == b"one"
    assert got == [b"one"]


class TestConnecting:
    async def test_nobody_listens(self) -> None:
        port = free_port("127.0.0.1")
        with pytest.raises(aipc.NobodyListens, match=f"127.0.0.1:{port}: Connection refused"):
            await aipc.open_channel(f"tcp://127.0.0.1:{port}")

    async def test_unknown_host(self) -> None:
        with anyio.fail_after(20), pytest.raises(aipc.UnknownHost, match=r"nowhere\.invalid"):
            await aipc.open_channel("tcp://nowhere.invalid:80")
        with pytest.raises(socket.gaierror):
            await aipc.listen("tcp://nowhere.invalid:80")

    @pytest.mark.parametrize(
        "url", ["tcp:", "tcp://127.0.0.1", "tcp://:80", "tcp://127.0.0.1:65536", "tcp://::1:80", "tcp:/a/b"]
    )
    async def test_bad_address(self, url: str) -> None:
        with pytest.raises(aipc.AddressError):
            await aipc.open_channel(url)
        with pytest.raises(aipc.AddressError):
            await aipc.listen(url)

    async def test_port_0(self) -> None:
        with pytest.raises(aipc.AddressError, match="port 0"):
            await aipc.open_channel("tcp://127.0.0.1:0")

    async def test_name(self) -> None:
        """A name's addresses are all tried: here IPv6 first, as the resolver has it, where nobody may listen."""
        async with listening() as (listener, _):
            url = f"tcp://localhost:{port_of(listener)}"
            async with aipc.open_channel(url) as ours, await listener.accept() as theirs:
                await ours.send(b"found")
                assert await theirs.receive() == b"found"

    async def test_refused_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = free_port("127.0.0.1")
        places = [Resolved(socket.AF_INET6, ("::1", port, 0, 0)), Resolved(socket.AF_INET, ("127.0.0.1", port))]
        resolve_to(places, monkeypatch)
        with pytest.raises(aipc.NobodyListens) as caught:
            await aipc.open_channel(f"tcp://both.example:{port}")
        assert f"[::1]:{port}: Connection refused" in str(caught.value)
        assert f"127.0.0.1:{port}: Connection refused" in str(caught.value)

    async def test_next_address_after_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with listening() as (listener, _):
            port = port_of(listener)
            places = [Resolved(socket.AF_INET6, ("::1", port, 0, 0)), Resolved(socket.AF_INET, ("127.0.0.1", port))]
            resolve_to(places, monkeypatch)
            async with aipc.open_channel(f"tcp://both.example:{port}") as channel, await listener.accept():
                assert channel.extra(SocketAttribute.remote_address) == ("127.0.0.1", port)

    async def test_next_address_while_one_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with silent() as deaf, listening() as (listener, _):
            places = [deaf, Resolved(socket.AF_INET, ("127.0.0.1", port_of(listener)))]
            resolve_to(places, monkeypatch)
            async with aipc.open_channel("tcp://both.example:1") as channel, await listener.accept():
                assert channel.extra(SocketAttribute.remote_port) == port_of(listener)

    async def test_cancelled(self) -> None:
        """Nothing stays open; the fixture that counts descriptors would tell."""
        async with silent() as deaf:
            with anyio.move_on_after(0.05) as scope:
                await aipc.open_channel(f"tcp://127.0.0.1:{deaf.sockaddr[1]}")
            assert scope.cancelled_caught

    async def test_cancelled_at_every_await(self) -> None:
        async with listening() as (listener, url):
            outcomes = set()
            for at in range(30):
                outcome = await inject(open_channel(url), at)
                outcomes.add(outcome is CANCELLED)
                if outcome is not CANCELLED:
                    await outcome.aclose()
                with anyio.move_on_after(0.01):  # the kernel may have connected all the same
                    await (await listener.accept()).aclose()
            assert outcomes == {True, False}

    async def test_families_take_turns(self) -> None:
        four, six = Resolved(socket.AF_INET, ("127.0.0.1", 1)), Resolved(socket.AF_INET6, ("::1", 1, 0, 0))
        assert inet_stream._interleaved([six, six, six, four, four]) == [six, four, six, four, six]

    async def test_connection_with_oneself(self) -> None:
        """A port that nobody listens at may be one's own by chance, and TCP then connects it to itself: that is a refusal."""
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(BlockingIOError):
                inet_stream.connect_step(sock, sock.getsockname())
            assert inet_stream.connect_step(sock, sock.getsockname()) == errno.ECONNREFUSED
            assert sock.getpeername() == sock.getsockname()


async def open_channel(url: str) -> Channel:
    return await aipc.open_channel(url)


def resolve_to(places: list[Resolved], monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object) -> list[Resolved]:
        return places

    monkeypatch.setattr(inet_stream, "resolve", resolve)


@asynccontextmanager
async def silent() -> AsyncIterator[Resolved]:
    """An address that does not answer: its backlog is full, and the kernel drops whoever knocks."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                plain = stack.enter_context(socket.socket())
                plain.setblocking(False)
                plain.connect_ex(server.getsockname())
            yield Resolved(socket.AF_INET, server.getsockname())


class TestListening:
    @pytest.mark.parametrize("url", ["tcp://[::]:0", "tcp://0.0.0.0:0"])
    async def test_every_address(self, url: str) -> None:
        async with aipc.listen(url) as listener:
            hosts = HOSTS if "::" in url else HOSTS[:1]
            for host in hosts:
                async with aipc.open_channel(f"tcp://{host}:{port_of(listener)}") as ours, await listener.accept() as theirs:
                    await ours.send(b"x")
                    assert await theirs.receive() == b"x"

    async def test_port_taken(self) -> None:
        async with listening() as (_, url):
            with pytest.raises(aipc.ObjectExists, match="Address already in use"):
                await aipc.listen(url)

    async def test_shared_port(self) -> None:
        async with listening(reuse=True) as (_, url), aipc.listen(url, reuse=True):
            pass

    async def test_not_our_address(self) -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            await aipc.listen("tcp://192.0.2.1:0")

    async def test_again_at_once(self) -> None:
        """Connections that the server closed first linger in TIME_WAIT, and don't keep it from its port."""
        async with listening() as (listener, url), aipc.open_channel(url) as client:
            async with await listener.accept():
                pass
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
        async with aipc.listen(url):
            pass

    async def test_attributes(self) -> None:
        async with listening("[::1]") as (listener, _):
            port = port_of(listener)
            assert port > 0
            assert listener.extra(SocketAttribute.local_address) == ("::1", port)
            assert listener.extra(SocketAttribute.family) == socket.AF_INET6
            assert listener.extra(SocketAttribute.raw_socket).fileno() == listener.extra(aipc.ChannelAttribute.descriptor)
            await listener.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                listener.extra(SocketAttribute.local_port)


class TestOptions:
    @pytest.mark.parametrize("on", [True, False])
    async def test_both_ends(self, on: bool) -> None:
        options = {"nodelay": on, "keepalive": on, "send_buffer": 20_000, "receive_buffer": 30_000}
        async with (
            listening(**options) as (listener, url),
            aipc.open_channel(url, **options) as ours,
            await listener.accept() as theirs,
        ):
            for channel in (ours, theirs):
                sock = channel.extra(SocketAttribute.raw_socket)
                assert bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is on
                assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is on
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000

    async def test_small_messages_leave_at_once_by_default(self) -> None:
        async with listening() as (listener, url), aipc.open_channel(url) as ours, await listener.accept() as theirs:
            for channel in (ours, theirs):
                assert channel.extra(SocketAttribute.raw_socket).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    @pytest.mark.parametrize("option", ["send_buffer", "receive_buffer"])
    async def test_buffer_over_the_kernels_limit(self, option: str) -> None:
        with pytest.raises(aipc.LimitExceeded, match=option):
            await aipc.listen("tcp://127.0.0.1:0", **{option: 1 << 30})
        async with listening() as (_, url):
            with pytest.raises(aipc.LimitExceeded, match=option):
                await aipc.open_channel(url, **{option: 1 << 30})

    @pytest.mark.parametrize("query", ["nodelay=perhaps", "send_buffer=0", "colour=red", "framing=u31"])
    async def test_bad_option(self, query: str) -> None:
        with pytest.raises(aipc.AddressError):
            await aipc.open_channel(f"tcp://127.0.0.1:1?{query}")
        with pytest.raises(aipc.AddressError):
            await aipc.listen(f"tcp://127.0.0.1:0?{query}")

    async def test_attributes(self) -> None:
        async with listening() as (listener, url), aipc.open_channel(url) as ours, await listener.accept() as theirs:
            assert ours.extra(SocketAttribute.remote_address) == theirs.extra(SocketAttribute.local_address)
            assert theirs.extra(SocketAttribute.remote_port) == ours.extra(SocketAttribute.local_port)
            assert ours.extra(SocketAttribute.family) == socket.AF_INET
            assert ours.extra(aipc.ChannelAttribute.max_message_size) == 1 << 24


async def test_closing_with_messages_unread_resets() -> None:
    async with connected() as (channel, plain):
        plain.sendall(b"\0\0\0\x06unread")
        await channel.peek()
        plain.sendall(b"\0\0\0\x06unread")
        await channel.aclose()
        with pytest.raises(ConnectionResetError):
            plain.recv(1)
