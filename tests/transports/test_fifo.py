"""FIFOs: who waits for whom at opening, how a stream ends, and what is refused. Many writers: test_fifo_writers.py."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import anyio
import pytest

import aipc
from aipc._sys import pipes
from aipc.abc import Channel, ChannelAttribute
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle

from ..peers import compile_peer, process, run

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("fifo", tmp_path_factory))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def receiving(path: Path, **options: object) -> aipc.Opening[Channel]:
    return aipc.open_channel(f"fifo:{path}?direction=receive", **options)


def sending(path: Path, **options: object) -> aipc.Opening[Channel]:
    return aipc.open_channel(f"fifo:{path}?direction=send", **options)


def plain_writer(path: Path) -> int:
    """Another program's end, as by open(2)."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


# Making and removing


async def test_missing(tmp_path: Path) -> None:
    for opening in (receiving(tmp_path / "none"), sending(tmp_path / "none"), receiving(tmp_path / "none", keep_open=True)):
        with pytest.raises(aipc.ObjectMissing, match="create=1"):
            await opening
    assert list(tmp_path.iterdir()) == []


async def test_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        async with receiving(tmp_path / "open", create=True, mode=0o622), receiving(tmp_path / "default", create=True):
            modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "default")]
            assert modes == [0o622, 0o600]
    finally:
        os.umask(before)


async def test_create_takes_what_is_there(path: Path) -> None:
    path.chmod(0o640)
    async with receiving(path, create=True, mode=0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.exists()


async def test_exclusive(tmp_path: Path) -> None:
    async with receiving(tmp_path / "fifo", exclusive=True):
        with pytest.raises(aipc.ObjectExists):
            await receiving(tmp_path / "fifo", exclusive=True)
    assert (tmp_path / "fifo").is_fifo()


async def test_unlink(path: Path) -> None:
    async with receiving(path, unlink=True):
        assert path.exists()
    assert not path.exists()


async def test_unlink_leaves_another_file_alone(path: Path) -> None:
    async with receiving(path, unlink=True):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


async def test_what_is_no_fifo(tmp_path: Path, path: Path) -> None:
    """Refused, and not even opened: opening a device can have effects."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        for name in ("file", "directory", "link", "dangling", "socket"):
            for opening in (receiving, sending):
                with pytest.raises(
                    aipc.WrongObject, match="symbolic link" if "ing" in name or name == "link" else "not a FIFO"
                ):
                    await opening(tmp_path / name, create=True, unlink=True)
            assert os.path.lexists(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(aipc.WrongObject):
        await sending(Path("/dev/null"))
    with pytest.raises(aipc.WrongObject):
        await sending(path / "below")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("fifo:", "needs a path"),
        ("fifo://host/tmp/x", "needs a path"),
        ("fifo:/tmp/x?direction=both", "receive or send"),
        ("fifo:/tmp/x?framing=u16", "u16"),
        ("fifo:/tmp/x?keep_open=1&wait=1", "waits for nobody"),
        ("fifo:/tmp/x?type=1", "unknown option 'type'"),
    ],
)
async def test_malformed(url: str, what: str) -> None:
    with pytest.raises(aipc.AddressError, match=what):
        await aipc.open_channel(url, create=True)


# Opening


async def test_receiver_opens_at_once_and_waits_for_its_first_writer(path: Path) -> None:
    """Nobody there is not the end."""
    async with receiving(path) as receiver:
        with pytest.raises(anyio.WouldBlock):
            receiver.receive_nowait()
        got: list[bytes] = []

        async def receive() -> None:
            got.extend([message async for message in receiver])

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                await settle()
                async with sending(path) as sender:
                    await settle()
                    await sender.send(b"first")
        assert got == [b"first"]


async def test_writer_that_comes_and_leaves_in_silence_is_the_end(path: Path) -> None:
    async with receiving(path) as receiver:

        async def expect_end() -> None:
            with pytest.raises(anyio.EndOfStream):
                await receiver.receive()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect_end)
                await settle()
                os.close(plain_writer(path))
    async with receiving(path) as receiver:
        os.close(plain_writer(path))
        with pytest.raises(anyio.EndOfStream):
            receiver.receive_nowait()


async def test_an_earlier_writer_is_not_this_receivers_end(path: Path) -> None:
    async with receiving(path):
        os.close(plain_writer(path))
        async with receiving(path) as later:
            with pytest.raises(anyio.WouldBlock):
                later.receive_nowait()


async def test_end_is_for_good(path: Path) -> None:
    """A later writer's messages are for a receiver that is opened for them, or had `keep_open`."""
    async with receiving(path) as receiver:
        async with sending(path) as sender:
            await sender.send(b"last")
        assert await receiver.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await receiver.receive()
        async with receiving(path) as next_one, sending(path) as sender:
            await sender.send(b"next")
            with pytest.raises(anyio.EndOfStream):
                await receiver.receive()
            assert await next_one.receive() == b"next"


async def test_receiver_that_outlives_its_writers(path: Path) -> None:
    async with receiving(path, keep_open=True) as receiver:
        descriptor = receiver.extra(ChannelAttribute.descriptor)
        for number in range(3):
            async with sending(path, wait=False) as sender:
                await sender.send(b"%d" % number)
            with anyio.fail_after(10):
                assert await receiver.receive() == b"%d" % number
            with pytest.raises(anyio.WouldBlock):
                receiver.receive_nowait()
            assert pipes.events(descriptor) == 0  # so that no loop spins on it


async def test_sender_that_outlives_its_receivers(path: Path) -> None:
    async with sending(path, keep_open=True) as sender:
        await sender.send(b"kept")
        for number in range(3):
            async with receiving(path) as receiver:
                assert await receiver.receive() == (b"%d" % (number - 1) if number else b"kept")
            await sender.send(b"%d" % number)
        with pytest.raises(aipc.UnsupportedOperation):
            await sender.receive()


async def test_sender_waits_for_a_receiver(path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        sent = anyio.Event()

        async def send() -> None:
            async with sending(path) as sender:
                await sender.send(b"at last")
                sent.set()

        tasks.start_soon(send)
        await settle()
        assert not sent.is_set()
        async with receiving(path) as receiver:
            with anyio.fail_after(10):
                assert await receiver.receive() == b"at last"


async def test_sender_sees_a_receiver_that_waits_in_open(path: Path) -> None:
    """Of such a one inotify(7) tells nothing."""
    with process("cat", str(path)) as cat, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send(b"hello")
        assert cat.communicate(timeout=10)[0] == "hello\n"


async def test_sender_follows_a_fifo_that_is_made_anew(path: Path) -> None:
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            async with sending(path) as sender:
                await sender.send(b"found")

        tasks.start_soon(send)
        await settle()
        os.mkfifo(path.with_name("new"))
        path.with_name("new").rename(path)
        async with receiving(path) as receiver:
            with anyio.fail_after(10):
                assert await receiver.receive() == b"found"


async def test_sender_that_does_not_wait(path: Path) -> None:
    with pytest.raises(aipc.NobodyListens, match="wait=1"):
        await sending(path, wait=False)
    with pytest.raises(aipc.NobodyListens):
        await sending(path.with_name("new"), wait=False, create=True)
    assert list(path.parent.iterdir()) == [path]
    async with receiving(path), sending(path, wait=False) as sender:
        await sender.send(b"x")


async def test_receiver_that_waits_for_a_writer(path: Path) -> None:
    """As open(2) does: for a writer, whether or not it writes."""
    opened = anyio.Event()

    async def receive() -> None:
        async with receiving(path, wait=True) as receiver:
            opened.set()
            assert [message async for message in receiver] == [b"one", b"two"]

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await settle()
            assert not opened.is_set()
            async with sending(path) as sender:
                await opened.wait()
                await sender.send_many([b"one", b"two"])
        async with anyio.create_task_group() as tasks:  # what came before it looked is read ahead, and kept
            tasks.start_soon(receive)
            await anyio.lowlevel.checkpoint()
            async with sending(path, keep_open=True) as sender:
                await sender.send_many([b"one", b"two"])
                async with sending(path, wait=False):
                    await settle()


@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", range(4))
async def test_cancelled_opening_leaves_nothing(direction: str, at: int, moment: Moment, tmp_path: Path) -> None:
    async def opening() -> Channel:
        return await aipc.open_channel(
            f"fifo:{tmp_path}/fifo", direction=direction, create=True, unlink=True, wait=True, max_message_size=3
        )

    with anyio.fail_after(10):
        assert await inject(opening(), at, moment) is CANCELLED
    assert list(tmp_path.iterdir()) == []


async def test_failed_opening_leaves_what_was_there(path: Path) -> None:
    with anyio.move_on_after(0.01):
        await sending(path, create=True, unlink=True)
    assert path.exists()


# Ends


async def test_a_message_cut_short(path: Path) -> None:
    async with receiving(path) as receiver:
        writer = plain_writer(path)
        os.write(writer, b"\0\0\0\x05hello\0\0\0\x05he")
        os.close(writer)
        assert await receiver.receive() == b"hello"
        with pytest.raises(aipc.ProtocolError):
            await receiver.receive()


async def test_a_long_message_cut_short(path: Path) -> None:
    async with receiving(path) as receiver:
        writer = plain_writer(path)
        os.write(writer, b"\0\2\0\0" + bytes(5))
        os.close(writer)
        with pytest.raises(aipc.ProtocolError):
            await receiver.receive()


async def test_attributes(path: Path) -> None:
    async with receiving(path, capacity=5_000, max_message_size=100) as receiver, sending(path) as sender:
        assert receiver.extra(ChannelAttribute.capacity) == sender.extra(ChannelAttribute.capacity) == 8_192
        await sender.send(b"hello")
        assert receiver.extra(ChannelAttribute.unread) == sender.extra(ChannelAttribute.unread) == 9
        assert receiver.extra(ChannelAttribute.max_message_size) == 100
        await receiver.receive()
        assert receiver.extra(ChannelAttribute.unread) == 0


# Other programs


async def test_socat_sends(path: Path) -> None:
    async with receiving(path, framing="lines") as receiver:
        with process("socat", "-u", "-", f"PIPE:{path}") as socat, anyio.fail_after(10):
            assert socat.stdin is not None
            socat.stdin.write("one\ntwo\n")
            socat.stdin.close()
            assert [message async for message in receiver] == [b"one", b"two"]


async def test_socat_receives(path: Path) -> None:
    with process("socat", "-u", f"PIPE:{path},rdonly", "-") as socat, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send_many([b"one", b"two"])
        assert socat.communicate(timeout=10)[0] == "one\ntwo\n"


async def test_shell_sends(path: Path) -> None:
    with anyio.fail_after(10):
        async with receiving(path, framing="none", wait=False) as receiver:
            await anyio.to_thread.run_sync(run, "sh", "-c", f"printf hello > {path}")
            assert b"".join([chunk async for chunk in receiver]) == b"hello"


@pytest.mark.parametrize(("framing", "size"), [("u32", 100), ("u32", 300_000), ("raw", 100)])
async def test_receives_from_c(framing: str, size: int, path: Path, c_peer: str) -> None:
    expected = [b"0 %d " % number + b"a" * (size - 4) for number in range(10)]
    with process(c_peer, "send", str(path), framing, "1", "10", str(size)) as peer, anyio.fail_after(20):
        async with receiving(path, framing="none" if framing == "raw" else framing) as receiver:
            got = [message async for message in receiver]
        assert (got == expected) if framing == "u32" else (b"".join(got) == b"".join(expected))
        assert peer.wait(10) == 0


async def test_sends_to_c(path: Path, c_peer: str) -> None:
    with process(c_peer, "receive", str(path), "u32") as peer, anyio.fail_after(20):
        async with sending(path) as sender:
            await sender.send_many([b"", b"\1\2", b"\1" * 300_000])
        assert peer.communicate(timeout=10)[0] == "0 0\n2 3\n300000 300000\n"
    with process(c_peer, "receive", str(path), "raw") as peer, anyio.fail_after(20):
        async with sending(path, framing="none") as sender:
            await sender.send_many([b"hel", b"lo"])
        assert peer.communicate(timeout=10)[0] == "hello"


async def test_c_reader_that_leaves(path: Path) -> None:
    with process("head", "-c", "5", str(path)) as head, anyio.fail_after(10):
        async with sending(path, framing="none") as sender:
            await sender.send(b"hello")
            assert head.wait(10) == 0
            with pytest.raises(anyio.BrokenResourceError):
                await sender.send(b"nobody")


async def test_sends_to_a_childs_standard_input(path: Path) -> None:
    """The child's own open(2), by the shell, is what the sender waits for."""
    with subprocess.Popen(["sh", "-c", f"sort < {path}"], stdout=subprocess.PIPE, text=True) as sort, anyio.fail_after(10):
        async with sending(path, framing="lines") as sender:
            await sender.send_many([b"two", b"one"])
        assert sort.communicate(timeout=10)[0] == "one\ntwo\n"
