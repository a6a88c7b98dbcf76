"""Unix datagrams: addresses, replies, full queues, lost receivers; C programs and socat at the other end."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest

import aipc
from aipc import ChannelAttribute
from aipc.testing.expect import settle

from ...peers import compile_peer, process, said
from ...subjects import fill

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("unix_packet", tmp_path_factory))


@pytest.fixture
def path(place: Path) -> Path:
    return place / "server"


@pytest.mark.parametrize("bind", [None, "{place}/client", "@aipc-test-client-{pid}"])
async def test_reply_to_sender(bind: str | None, path: Path) -> None:
    """Whatever the client is called, and even if it did not ask for a name."""
    options = {} if bind is None else {"bind": bind.format(place=path.parent, pid=os.getpid())}
    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={path}") as server,
            aipc.open_channel(f"unix+dgram:{path}", **options) as client,
        ):
            await client.send(b"question")
            message = await server.receive_message()
            assert message.data == b"question"
            assert message.credentials == (os.getpid(), os.getuid(), os.getgid())
            assert bind is None or message.sender == options["bind"]
            await server.send(b"answer", to=message.sender)
            answer = await client.receive_message()
            assert answer.data == b"answer"
            assert answer.sender == str(path)


async def test_unconnected_both_ways(place: Path) -> None:
    one, other = place / "one", place / "other"
    with anyio.fail_after(10):
        async with (
            aipc.open_channel("unix+dgram:", bind=str(one)) as ours,
            aipc.open_channel(f"unix+dgram:?bind={other}") as theirs,
        ):
            await ours.send_many([b"1", b"2"], to=other)  # a path object
            assert await theirs.receive_many() == [b"1", b"2"]
            theirs.send_nowait(b"3", to=str(one))
            assert await ours.receive() == b"3"
            for send in (ours.send(b"x"), ours.send(b"x", fds=[0])):
                with pytest.raises(aipc.UnsupportedOperation, match="to=address"):
                    await send
    assert os.listdir(place) == []


async def test_connected_sends_elsewhere_too(place: Path) -> None:
    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={place}/a") as one,
            aipc.open_channel(f"unix+dgram:?bind={place}/b") as other,
            aipc.open_channel(f"unix+dgram:{place}/a") as ours,
        ):
            await ours.send(b"there")
            await ours.send(b"elsewhere", to=f"{place}/b")
            await ours.send(b"with a descriptor", to=f"{place}/b", fds=[0])
            assert await one.receive() == b"there"
            assert await other.receive_many() == [b"elsewhere", b"with a descriptor"]


async def test_relative_own_path_can_be_replied_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another directory: the peer is told the absolute path."""
    monkeypatch.chdir(place)
    with anyio.fail_after(10):
        async with (
            aipc.open_channel("unix+dgram:?bind=server") as server,
            aipc.open_channel("unix+dgram:server?bind=client") as client,
        ):
            monkeypatch.chdir("/")
            await client.send(b"question")
            message = await server.receive_message()
            assert message.sender == f"{place}/client"
            await server.send(b"answer", to=message.sender)
            assert await client.receive() == b"answer"
    assert os.listdir(place) == []


async def test_long_paths(place: Path) -> None:
    """They work in every place; only the sender's is not told, because no other process could use what the kernel tells."""
    directory = place / ("d" * 120)
    directory.mkdir()
    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={directory}/server") as server,
            aipc.open_channel(f"unix+dgram:{directory}/server?bind={directory}/client") as client,
        ):
            await client.send(b"question")
            message = await server.receive_message()
            assert (message.data, message.sender) == (b"question", None)
            await server.send(b"answer", to=f"{directory}/client")
            assert await client.receive() == b"answer"
    assert os.listdir(directory) == []


async def test_full_queue(path: Path) -> None:
    """Each of many connected senders wakes when the receiver takes something, and an unconnected one, too."""
    received = []
    with anyio.fail_after(30):
        async with aipc.open_channel(f"unix+dgram:?bind={path}") as server, anyio.create_task_group() as tasks:

            async def send(name: int, options: dict[str, str]) -> None:
                url = "unix+dgram:" if options else f"unix+dgram:{path}"
                async with aipc.open_channel(url) as client:
                    for number in range(200):
                        await client.send(b"%d %d" % (name, number), **options)

            for name in range(5):
                tasks.start_soon(send, name, {})
            tasks.start_soon(send, 5, {"to": str(path)})
            await settle()
            while len(received) < 1_200:
                received.append(await server.receive())
    for name in range(6):
        mine = [data for data in received if data.startswith(b"%d " % name)]
        assert mine == [b"%d %d" % (name, number) for number in range(200)]


@pytest.mark.parametrize("options", [{}, {"to": "{path}"}], ids=["connected", "unconnected"])
async def test_queue_that_others_filled(options: dict[str, str], path: Path) -> None:
    """The sender waits without a spin, and wakes. (A vain sendto(2) makes an unconnected socket ready to write once more.)"""
    options = {name: value.format(path=path) for name, value in options.items()}
    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={path}") as server,
            aipc.open_channel(f"unix+dgram:{path}") as other,
            aipc.open_channel("unix+dgram:" if options else f"unix+dgram:{path}") as client,
            anyio.create_task_group() as tasks,
        ):
            count = fill(other, b"other")
            tasks.start_soon(partial(client.send, b"mine", **options))
            await settle()
            used = time.process_time()
            await anyio.sleep(0.5)
            assert time.process_time() - used < 0.1
            got = [await server.receive() for _ in range(count + 1)]
            assert got == [b"other"] * count + [b"mine"]


async def test_closed_while_it_waits_for_another_ones_queue(path: Path) -> None:
    async def expect_closed(channel: aipc.Channel) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await channel.send(b"x", to=str(path))

    with anyio.fail_after(10):
        async with aipc.open_channel(f"unix+dgram:?bind={path}"), aipc.open_channel("unix+dgram:") as client:
            with suppress(anyio.WouldBlock):
                while True:
                    client.send_nowait(b"x", to=str(path))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_closed, client)
                tasks.start_soon(expect_closed, client)
                await settle()
                await client.aclose()


async def test_lost_receiver(path: Path) -> None:
    """It is BrokenResourceError for connected and unconnected alike; who comes after it at that path is another receiver."""
    with anyio.fail_after(10):
        async with aipc.open_channel("unix+dgram:") as unconnected:
            with pytest.raises(anyio.BrokenResourceError, match=f"to='{path}'"):
                await unconnected.send(b"x", to=str(path))  # no such file
            server = await aipc.open_channel(f"unix+dgram:?bind={path}", unlink=False)
            async with aipc.open_channel(f"unix+dgram:{path}") as client:
                await server.aclose()
                for _ in range(2):
                    with pytest.raises(anyio.BrokenResourceError):
                        await client.send(b"x")
                with pytest.raises(anyio.BrokenResourceError, match=f"to='{path}'"):
                    await unconnected.send(b"x", to=str(path))  # a stale file
                async with aipc.open_channel(f"unix+dgram:?bind={path}") as successor:
                    with pytest.raises(anyio.BrokenResourceError):
                        await client.send(b"x")
                    await unconnected.send(b"x", to=str(path))
                    assert await successor.receive() == b"x"


async def test_lost_while_waiting(path: Path) -> None:
    async def expect_broken(channel: aipc.Channel, options: dict[str, str]) -> None:
        with pytest.raises(anyio.BrokenResourceError):
            await channel.send(b"x", **options)

    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={path}") as server,
            aipc.open_channel(f"unix+dgram:{path}") as connected,
            aipc.open_channel("unix+dgram:") as unconnected,
            anyio.create_task_group() as tasks,
        ):
            fill(connected, b"x")
            tasks.start_soon(expect_broken, connected, {})
            tasks.start_soon(expect_broken, unconnected, {"to": str(path)})
            await settle()
            await server.aclose()


@pytest.mark.parametrize("to", ["", "@", "@" + "n" * 108, "a\0b"])
async def test_no_address(to: str, path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel("unix+dgram:") as channel:
            with pytest.raises(aipc.AddressError):
                await channel.send(b"x", to=to)
        with pytest.raises(aipc.AddressError):
            await aipc.open_channel("unix+dgram:", bind=to)


async def test_socket_of_another_kind(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}"), aipc.open_channel("unix+dgram:") as channel:
            with pytest.raises(aipc.WrongObject):
                await channel.send(b"x", to=str(path))
            with pytest.raises(aipc.WrongObject, match="not a datagram"):
                await aipc.open_channel(f"unix+dgram:{path}")
            with pytest.raises(aipc.ObjectExists):
                await aipc.open_channel("unix+dgram:", bind=str(path))
        path.write_text("a file")
        with pytest.raises(aipc.WrongObject):
            await aipc.open_channel("unix+dgram:", bind=str(path))
        assert path.read_text() == "a file"


async def test_receiver_connected_to_another_one(path: Path) -> None:
    """The kernel lets only that one send to it."""
    with anyio.fail_after(10):
        async with (
            aipc.open_channel(f"unix+dgram:?bind={path.parent}/other"),
            aipc.open_channel(f"unix+dgram:{path.parent}/other?bind={path}"),
            aipc.open_channel("unix+dgram:") as stranger,
        ):
            with pytest.raises(aipc.AccessDenied, match="receives from that one only"):
                await stranger.send(b"x", to=str(path))
            with pytest.raises(aipc.AccessDenied, match="receives from that one only"):
                await aipc.open_channel(f"unix+dgram:{path}")


async def test_own_file(path: Path) -> None:
    """Stale: taken over, but not by `exclusive`. Live: left alone, also when its owner talks to somebody else. Ours: removed."""
    other = path.with_name("other")
    with anyio.fail_after(10):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(path))
        with pytest.raises(aipc.ObjectExists):
            await aipc.open_channel("unix+dgram:", bind=str(path), exclusive=True)
        async with aipc.open_channel(f"unix+dgram:?bind={other}"):
            async with aipc.open_channel(f"unix+dgram:{other}?bind={path}&mode=640"):
                assert path.stat().st_mode & 0o777 == 0o640
                with pytest.raises(aipc.ObjectExists):
                    await aipc.open_channel("unix+dgram:", bind=str(path))
                assert path.exists()
            assert not path.exists()
            mine = await aipc.open_channel("unix+dgram:", bind=str(path))
            path.unlink()
            with ExitStack() as stack:
                somebody = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                somebody.bind(str(path))
                await mine.aclose()
                assert path.exists()
        kept = await aipc.open_channel("unix+dgram:", bind=str(path), unlink=False)
        await kept.aclose()
        assert path.exists()
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"unix+dgram:{path.parent}/missing?bind={path.parent}/never")
        assert not (path.parent / "never").exists()
        with pytest.raises(aipc.NobodyListens):
            await aipc.open_channel(f"unix+dgram:{path}")


async def test_statistics_and_attributes(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.open_channel(f"unix+dgram:?bind={path}") as server, aipc.open_channel(f"unix+dgram:{path}") as client:
            await client.send_many([b"12", b"345"])
            await server.receive_many()
            assert client.statistics() == aipc.ChannelStatistics(2, 0, 5, 0)
            assert server.statistics() == aipc.ChannelStatistics(0, 2, 0, 5)
            assert server.extra(anyio.abc.SocketAttribute.local_address) == str(path)
            assert client.extra(anyio.abc.SocketAttribute.remote_address) == str(path)
            assert client.extra(anyio.abc.SocketAttribute.family) == socket.AF_UNIX
            assert os.fstat(client.extra(ChannelAttribute.descriptor))
        with pytest.raises(anyio.ClosedResourceError):
            client.extra(ChannelAttribute.max_message_size)


async def test_c_peer_echoes(c_peer: str, path: Path) -> None:
    messages = [b"", b"x", b"y" * 100_000, b"z" * 4_097]
    with anyio.fail_after(30), process(c_peer, "echo", str(path), "8") as peer:
        assert await anyio.to_thread.run_sync(said, peer) == "ready"
        async with aipc.open_channel(f"unix+dgram:{path}") as connected, aipc.open_channel("unix+dgram:") as unconnected:
            for message in messages:
                await connected.send(message)
                assert await connected.receive() == message
                await unconnected.send(message, to=str(path))
                assert await unconnected.receive_message() == aipc.Message(
                    message, sender=str(path), credentials=aipc.Credentials(peer.pid, os.getuid(), os.getgid())
                )
    path.unlink()  # the C program leaves it


@pytest.mark.costly
async def test_c_peer_floods(c_peer: str, path: Path) -> None:
    """50,000 datagrams from a faster process: it waits, and none is lost."""
    got: list[bytes] = []
    with anyio.fail_after(60):
        async with aipc.open_channel(f"unix+dgram:?bind={path}") as server:
            with process(c_peer, "flood", str(path), "50000"):
                while len(got) < 50_000:
                    got += await server.receive_many()
    assert got == [b"%d" % number for number in range(50_000)]


@pytest.mark.parametrize(
    ("bind", "socat"), [("{place}/s", "UNIX-SENDTO:{place}/s"), ("@aipc-{pid}", "ABSTRACT-SENDTO:aipc-{pid}")]
)
async def test_socat_sends(bind: str, socat: str, place: Path) -> None:
    known = {"place": place, "pid": os.getpid()}
    own = f",bind={place}/socat" if socat.startswith("UNIX") else f",bind=aipc-socat-{os.getpid()}"
    with anyio.fail_after(30):
        async with aipc.open_channel("unix+dgram:", bind=bind.format(**known)) as server:
            with process("socat", "-", socat.format(**known) + own) as peer:
                assert peer.stdin is not None
                peer.stdin.write("from socat\n")
                peer.stdin.flush()
                message = await server.receive_message()
                assert message.data == b"from socat\n"
                await server.send(b"to socat\n", to=message.sender)
                assert await anyio.to_thread.run_sync(said, peer) == "to socat"


async def test_socat_receives(path: Path) -> None:
    """UNIX-RECVFROM answers one datagram, to wherever it came from."""
    with anyio.fail_after(30), process("socat", f"UNIX-RECVFROM:{path}", "EXEC:tr a-z A-Z"):
        while True:
            try:
                client = await aipc.open_channel(f"unix+dgram:{path}?bind={path.parent}/client")
                break
            except (aipc.ObjectMissing, aipc.NobodyListens):
                await anyio.sleep(0.01)
        async with client:
            await client.send(b"to socat")
            assert await client.receive() == b"TO SOCAT"


async def test_socat_abstract_receives() -> None:
    name = f"aipc-socat-{os.getpid()}"
    with anyio.fail_after(30), process("socat", f"ABSTRACT-RECVFROM:{name}", "EXEC:tr a-z A-Z"):
        async with aipc.open_channel("unix+dgram:") as client:
            while True:
                try:
                    await client.send(b"to socat", to=f"@{name}")
                    break
                except anyio.BrokenResourceError:
                    await anyio.sleep(0.01)
            message = await client.receive_message()
            assert message.data == b"TO SOCAT"
            assert message.sender == f"@{name}"
