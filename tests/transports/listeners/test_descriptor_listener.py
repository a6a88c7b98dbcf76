"""Listening sockets that somebody else opened: `listen("fd:3")`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle
from aipc.transports.unix.stream_channel import UnixChannel

pytestmark = pytest.mark.anyio


def bound(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    return sock


@pytest.mark.parametrize(("kind", "scheme"), [(socket.SOCK_STREAM, "unix"), (socket.SOCK_SEQPACKET, "unix+seqpacket")])
async def test_unix(kind: socket.SocketKind, scheme: str, place: Path) -> None:
    """The descriptor is the listener's, and the path stays where it is."""
    path = place / "socket"
    sock = bound(path, kind)
    sock.listen()
    fd = sock.detach()
    os.set_inheritable(fd, True)
    reading, writing = os.pipe()
    async with aipc.listen(f"fd:{fd}") as listener:
        assert not os.get_inheritable(fd)
        async with aipc.open_channel(f"{scheme}:{path}") as client, await listener.accept() as server:
            await client.send(b"hello", fds=[writing])
            message = await server.receive_message()
            assert (message.data, len(message.fds)) == (b"hello", 1)
            os.close(message.fds[0])
            await server.send(b"")
            assert await client.receive() == b""
    assert path.is_socket()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_tcp(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as sock:
        address = sock.getsockname()
        fd = sock.detach()
    async with aipc.listen(f"fd:{fd}?framing=lines&max_connections=1") as listener:
        with socket.create_connection(address[:2]) as client:
            async with await listener.accept() as server:
                client.sendall(b"hello\n")
                assert await server.receive() == b"hello"
                await server.send(b"you")
                assert client.recv(100) == b"you\n"
                await server.send_eof()
                assert client.recv(100) == b""


async def test_framing_and_collecting(place: Path) -> None:
    sock = bound(place / "socket", socket.SOCK_STREAM)
    sock.listen()
    async with aipc.listen(f"fd:{sock.detach()}", framing="u64", max_message_size=5, fds=True) as listener:  # noqa: SIM117
        async with aipc.open_channel(f"unix:{place}/socket?framing=u64") as client, await listener.accept() as server:
            assert isinstance(server, UnixChannel)
            await client.send(b"hello!")
            with pytest.raises(aipc.MessageTooLarge):
                await server.receive()


async def test_several_processes_share_it(place: Path) -> None:
    """Draining closes one's own descriptor only: who is in the backlog is the others' to take."""
    sock = bound(place / "socket", socket.SOCK_STREAM)
    sock.listen()

    async def echo(channel: aipc.Channel) -> None:
        async for message in channel:
            await channel.send(message)

    async with aipc.listen(f"fd:{os.dup(sock.fileno())}") as one, anyio.create_task_group() as tasks:
        tasks.start_soon(one.serve, echo)
        async with aipc.open_channel(f"unix:{place}/socket") as client:
            await client.send(b"x")
            assert await client.receive() == b"x"
            tasks.start_soon(one.drain)
            await settle()
            async with aipc.open_channel(f"unix:{place}/socket") as late:
                await late.send(b"y")
                async with aipc.listen(f"fd:{os.dup(sock.fileno())}") as other, await other.accept() as server:
                    assert await server.receive() == b"y"
            await client.send(b"z")
            assert await client.receive() == b"z"
    assert (place / "socket").is_socket()
    sock.close()


async def test_what_is_no_listening_socket(place: Path) -> None:
    """It stays as it was, and open."""
    pair, other = socket.socketpair()
    with pair, other, bound(place / "deaf", socket.SOCK_STREAM) as deaf:  # noqa: SIM117
        with bound(place / "packets", socket.SOCK_DGRAM) as packets, open(__file__) as file:
            for fd in (pair.fileno(), deaf.fileno(), packets.fileno(), file.fileno()):
                with pytest.raises(aipc.WrongObject, match=f"descriptor {fd} is no"):
                    await aipc.listen(f"fd:{fd}")
                os.fstat(fd)
    with pytest.raises(aipc.ObjectMissing, match="not open"):
        await aipc.listen("fd:1000")
    for url in ("fd:", "fd:x", "fd:3,4", "fd://host/3", "fd:-1"):
        with pytest.raises(aipc.AddressError, match="fd:3"):
            await aipc.listen(url)
