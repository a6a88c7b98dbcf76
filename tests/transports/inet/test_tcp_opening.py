"""Connecting to and listening at internet addresses, and the options of both."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute

import aipc
from aipc._address import parse
from aipc.abc import Channel
from aipc.testing import CANCELLED, inject
from aipc.transports.inet import stream as inet_stream
from aipc.transports.inet.address import Resolved, endpoint

from ...internet import HOSTS, free_port, listening, port_of

pytestmark = pytest.mark.anyio


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

    @pytest.mark.parametrize("scheme", ["tcp", "tls"])
    async def test_services(self, scheme: str) -> None:
        """A port by its name in services(5); one that is none is the call's own error."""
        port = socket.getservbyname("tcpmux", "tcp")
        with anyio.fail_after(10), pytest.raises(aipc.NobodyListens, match="tcpmux"):
            await aipc.open_channel(f"{scheme}://127.0.0.1:tcpmux")
        assert endpoint(parse(f"{scheme}://localhost:tcpmux")) == ("localhost", port)
        for bad in ("htp", "-1", "99999", "80x", "8_0", "\u0663"):
            for opener in (aipc.open_channel, aipc.listen):
                with pytest.raises(aipc.AddressError, match=f"port .?{bad}.?: must be"):
                    opener(f"{scheme}://127.0.0.1:{bad}")

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
    @pytest.mark.parametrize("size", [1 << 30, 1 << 40])
    async def test_buffer_over_the_kernels_limit(self, option: str, size: int) -> None:
        """Also one that no C int holds."""
        with pytest.raises(aipc.LimitExceeded, match=option):
            await aipc.listen("tcp://127.0.0.1:0", **{option: size})
        async with listening() as (_, url):
            with pytest.raises(aipc.LimitExceeded, match=option):
                await aipc.open_channel(url, **{option: size})

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
