"""UDP: addresses, names, limits, refusals; socat at the other end."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Any

import anyio
import anyio.abc
import pytest

import aipc
from aipc import ChannelAttribute
from aipc._address import parse
from aipc.abc import Channel
from aipc.testing.expect import settle
from aipc.transports.inet import address as inet

from ...peers import isolated, process, said

pytestmark = pytest.mark.anyio

HOSTS = ["127.0.0.1", "[::1]"]
LIMITS = {"127.0.0.1": 65_507, "[::1]": 65_527}


def port_of(channel: Channel) -> int:
    return channel.extra(anyio.abc.SocketAttribute.local_port)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def free_port(host: str) -> int:
    """A port that nobody has, or gets by chance: it is reserved for as long as nobody asks for it by number."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host.strip("[]"), 0))
        return sock.getsockname()[1]


async def test_question_and_answer(host: str) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel(f"udp:?bind={host}:0") as server:
            url = f"udp://{host}:{port_of(server)}"
            async with aipc.open_channel(url) as client:
                await client.send(b"question")
                message = await server.receive_message()
                assert message.data == b"question"
                assert message.sender[:2] == (host.strip("[]"), port_of(client))
                await server.send(b"answer", to=message.sender)
                assert await client.receive() == b"answer"
                assert client.extra(anyio.abc.SocketAttribute.remote_port) == port_of(server)
                assert client.extra(anyio.abc.SocketAttribute.remote_address)[0] == host.strip("[]")


async def test_both_bound_and_connected(host: str, free_port: int) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel(f"udp:?bind={host}:0") as one:
            url = f"udp://{host}:{port_of(one)}?bind={host}:{free_port}"
            async with aipc.open_channel(url) as other:
                assert port_of(other) == free_port
                with pytest.raises(aipc.ObjectExists):
                    await aipc.open_channel(url)


@pytest.mark.parametrize("size", ["empty", "largest"])
async def test_extreme_sizes(size: str, host: str) -> None:
    limit = LIMITS[host]
    async with aipc.open_channel(f"udp:?bind={host}:0") as server:
        url = f"udp://{host}:{port_of(server)}"
        async with aipc.open_channel(url) as client:
            assert client.extra(ChannelAttribute.max_message_size) == limit
            data = b"" if size == "empty" else b"x" * limit
            with anyio.fail_after(10):
                await client.send(data)
                assert await server.receive() == data
                with pytest.raises(aipc.MessageTooLarge, match=f"{limit + 1:,} bytes.*{limit:,}"):
                    await client.send(b"x" * (limit + 1))
                with pytest.raises(aipc.MessageTooLarge):
                    await server.send(b"x" * (limit + 1), to=(host.strip("[]"), port_of(client)))
                with pytest.raises(anyio.WouldBlock):
                    server.receive_nowait()


async def test_names(host: str) -> None:
    """A name goes to the resolver, wherever it stands."""
    with anyio.fail_after(10):
        async with aipc.open_channel("udp:?bind=localhost:0") as server:
            port = port_of(server)
            async with aipc.open_channel(f"udp:localhost:{port}") as client:
                await client.send(b"1")
                await client.send(b"2", to=("localhost", port))
                await client.send_many([b"3"], to=("localhost", port))
                assert [await server.receive() for _ in range(3)] == [b"1", b"2", b"3"]
                with pytest.raises(aipc.UnsupportedOperation, match="localhost"):
                    client.send_nowait(b"x", to=("localhost", port))
                with pytest.raises(aipc.UnknownHost, match=r"nosuch\.invalid"):
                    await client.send(b"x", to=("nosuch.invalid", port))
        with pytest.raises(socket.gaierror):
            await aipc.open_channel("udp://nosuch.invalid:7000")
        with pytest.raises(aipc.UnknownHost):
            await aipc.open_channel("udp:?bind=nosuch.invalid:7000")


async def test_a_slow_resolver_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers only when another task of this loop has run. (uvloop's own resolver is not slowed down.)"""
    others_ran = threading.Event()
    ask = socket.getaddrinfo

    def ask_slowly(*arguments: Any, **options: Any) -> Any:
        flags = options.get("flags") or sum(arguments[5:6])
        assert flags & socket.AI_NUMERICHOST or others_ran.wait(10)  # trio looks first whether it is a number
        return ask(*arguments, **options)

    async def run() -> None:
        others_ran.set()

    async with aipc.open_channel("udp:?bind=127.0.0.1:0") as server, aipc.open_channel("udp:?bind=127.0.0.1:0") as client:
        monkeypatch.setattr(socket, "getaddrinfo", ask_slowly)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await client.send(b"x", to=("localhost", port_of(server)))
        assert await server.receive() == b"x"


async def test_numbers_ask_no_resolver(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolver(*arguments: Any, flags: int = 0, **options: Any) -> Any:
        raise AssertionError(arguments)

    async with aipc.open_channel(f"udp:?bind={host}:0") as server, aipc.open_channel(f"udp:?bind={host}:0") as client:
        monkeypatch.setattr(anyio, "getaddrinfo", resolver)
        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        await client.send(b"x", to=(host.strip("[]"), port_of(server)))
        client.send_nowait(b"y", to=(host.strip("[]"), port_of(server)))
        assert [await server.receive(), await server.receive()] == [b"x", b"y"]


async def test_scoped_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a zone is numeric: no resolver is asked."""

    def resolver(*arguments: Any) -> Any:
        raise AssertionError(arguments)

    monkeypatch.setattr(anyio, "getaddrinfo", resolver)
    (found,) = await inet.resolve("fe80::1%lo", 7000, "test")
    assert found == (socket.AF_INET6, ("fe80::1", 7000, 0, socket.if_nametoindex("lo")))


async def test_refusal_is_the_next_calls_error(host: str, free_port: int) -> None:
    """Nobody has the port: the kernel hears of it after the send. Afterwards the channel goes on as if nothing had been."""
    with anyio.fail_after(10):
        async with aipc.open_channel(f"udp://{host}:{free_port}") as client:
            await client.send(b"lost")
            with pytest.raises(anyio.BrokenResourceError, match="nobody receives there"):
                await client.send(b"not sent")
            await client.send(b"lost")
            with pytest.raises(anyio.BrokenResourceError):
                await client.receive()
            async with aipc.open_channel(f"udp:?bind={host}:{free_port}") as server:
                await client.send(b"arrives")
                assert await server.receive() == b"arrives"
            assert client.statistics().messages_sent == 3


async def test_refusal_wakes_a_waiting_receive(host: str, free_port: int) -> None:
    async def expect_broken(channel: Channel) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await channel.receive()

    with anyio.fail_after(10):
        async with aipc.open_channel(f"udp://{host}:{free_port}") as client, anyio.create_task_group() as tasks:
            tasks.start_soon(expect_broken, client)
            await settle()
            await client.send(b"lost")


async def test_unconnected_hears_of_no_refusal(host: str, free_port: int) -> None:
    async with aipc.open_channel(f"udp:?bind={host}:0") as channel:
        for _ in range(3):
            await channel.send(b"lost", to=(host.strip("[]"), free_port))
        with pytest.raises(anyio.WouldBlock):
            channel.receive_nowait()
        with pytest.raises(aipc.UnsupportedOperation, match=r"to=\(host, port\)"):
            await channel.send(b"x")
    with pytest.raises(anyio.ClosedResourceError):
        await channel.send(b"x")


def test_no_way_there() -> None:
    """An error of the one call, with its errno; the channel is not broken."""
    code = """
import asyncio, aipc

async def main():
    async with aipc.open_channel("udp:?bind=127.0.0.1:0") as channel:
        for _ in range(2):
            try:
                await channel.send(b"x", to=("127.0.0.1", 9))
            except OSError as error:
                print(error.errno)

asyncio.run(main())
"""
    assert isolated(code).split() == [str(errno.ENETUNREACH)] * 2


async def test_ports_shared_by_reuse(host: str) -> None:
    async with aipc.open_channel(f"udp:?bind={host}:0", reuse=True) as one:
        url = f"udp:?bind={host}:{port_of(one)}"
        async with aipc.open_channel(url, reuse=True) as other:
            assert port_of(other) == port_of(one)
        with pytest.raises(aipc.ObjectExists):
            await aipc.open_channel(url)


async def test_buffers(host: str) -> None:
    async with aipc.open_channel(f"udp:?bind={host}:0&receive_buffer=100000", send_buffer=50_000) as channel:
        raw = channel.extra(anyio.abc.SocketAttribute.raw_socket)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 200_000
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 100_000
    with pytest.raises(aipc.LimitExceeded, match=r"net\.core\.rmem_max"):
        await aipc.open_channel(f"udp:?bind={host}:0", receive_buffer=1 << 30)


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("udp://127.0.0.1:htp", "number from 0 to 65535, or a service's name of udp"),
        ("udp:?bind=127.0.0.1:htp", "a service's name of udp"),
        ("udp://127.0.0.1", "must be host:port"),
        ("udp://127.0.0.1:", "must be host:port"),
        ("udp://:7000", "must be host:port"),
        ("udp://::1:7000", "must be host:port"),
        ("udp://[127.0.0.1]:7000", "only an IPv6 address"),
        ("udp://127.0.0.1:65536", "from 0 to 65535"),
        ("udp:?bind=7000", "must be host:port"),
    ],
)
def test_no_address(url: str, right: str) -> None:
    """The call raises, and not only the `await`."""
    with pytest.raises(aipc.AddressError, match=right):
        aipc.open_channel(url)


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("udp://127.0.0.1:0", "port 0"),
        ("udp://127.0.0.1:7000?bind=[::1]:0", "one address is IPv4, the other IPv6"),
    ],
)
async def test_addresses_of_no_use(url: str, right: str) -> None:
    with pytest.raises(aipc.AddressError, match=right):
        await aipc.open_channel(url)


async def test_neither_a_peer_nor_an_own_address() -> None:
    """A socket as C's clients have it: the answer comes back to the port that the kernel picked."""
    async with aipc.open_channel("udp:") as client, aipc.open_channel("udp:?bind=127.0.0.1:0") as server:
        assert port_of(client) > 0
        with anyio.fail_after(10):
            await client.send(b"question", to=("localhost", port_of(server)))
            message = await server.receive_message()
            assert message == (b"question", *message[1:])
            assert message.sender == ("127.0.0.1", port_of(client))
            await server.send(b"answer", to=message.sender)
            assert (await client.receive_message()).sender == ("127.0.0.1", port_of(server))
        with pytest.raises(aipc.UnsupportedOperation, match="to="):
            await client.send(b"to whom?")
        with pytest.raises(aipc.AddressError, match=r"bind=\[::\]:0"):
            await client.send(b"", to=("::1", 7000))


def test_a_service_by_its_name(anyio_backend: object) -> None:
    assert inet.endpoint(parse("udp://127.0.0.1:ntp"), protocol="udp") == ("127.0.0.1", socket.getservbyname("ntp", "udp"))


@pytest.mark.parametrize(
    "to", ["127.0.0.1:7000", ("127.0.0.1",), (b"x", 1), ("127.0.0.1", "7000"), ("127.0.0.1", 0), ("::1", 7000)]
)
async def test_to_what_is_no_address(to: object) -> None:
    async with aipc.open_channel("udp:?bind=127.0.0.1:0") as channel:
        for send in (channel.send, channel.send_many):
            with pytest.raises(aipc.AddressError, match="to="):
                await send(b"", to=to)
        with pytest.raises(aipc.AddressError, match="to="):
            channel.send_nowait(b"", to=to)


async def test_address_of_nobody_here() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1") as caught:
        await aipc.open_channel("udp:?bind=192.0.2.1:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_endpoints(anyio_backend: object) -> None:
    assert inet.endpoint(parse("tcp://example.org:80")) == ("example.org", 80)
    assert inet.endpoint(parse("tcp:[::1]:80")) == ("::1", 80)


@pytest.mark.parametrize(("bind", "socat"), [("127.0.0.1", "UDP4-SENDTO:127.0.0.1:{}"), ("[::1]", "UDP6-SENDTO:[::1]:{}")])
async def test_socat_sends(bind: str, socat: str) -> None:
    with anyio.fail_after(30):
        async with aipc.open_channel("udp:", bind=f"{bind}:0") as server:
            with process("socat", "-", socat.format(port_of(server))) as peer:
                assert peer.stdin is not None
                peer.stdin.write("from socat\n")
                peer.stdin.flush()
                message = await server.receive_message()
                assert message.data == b"from socat\n"
                await server.send(b"to socat\n", to=message.sender)
                assert await anyio.to_thread.run_sync(said, peer) == "to socat"


async def test_socat_receives(host: str, free_port: int) -> None:
    """It takes a while until socat has the port; until then, sending is refused."""
    version = "6" if host.startswith("[") else "4"
    peer = process("socat", f"UDP{version}-RECVFROM:{free_port},bind={host}", "EXEC:tr a-z A-Z")
    with anyio.fail_after(30), peer:
        async with aipc.open_channel(f"udp://{host}:{free_port}") as client:
            while True:
                try:
                    await client.send(b"to socat")
                    assert await client.receive() == b"TO SOCAT"
                    break
                except anyio.BrokenResourceError:
                    await anyio.sleep(0.01)
