"""A child's streams on channels: the child blocks on them, and ours do not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

import aipc

pytestmark = pytest.mark.anyio

BLOCKING = [sys.executable, "-c", "import os; os.write(1, b'%r %r\\n' % (os.get_blocking(0), os.get_blocking(1)))"]


async def output(channel: aipc.Channel) -> bytes:
    with anyio.fail_after(30):
        return b"".join([chunk async for chunk in channel])


async def test_output_into_a_pipe() -> None:
    receiver, sender = aipc.pipe(framing="none")
    async with (
        receiver,
        sender,
        aipc.popen(BLOCKING, "w", stdout=sender) as child,
        aipc.popen("echo too", "w", stdout=sender),
    ):
        await sender.send(b"ours\n")
        await sender.aclose()  # the pipe stays ours: without this, its end would not come
        assert sorted((await output(receiver)).splitlines()) == [b"True True", b"ours", b"too"]
    assert child.returncode == 0


async def test_input_from_a_pipe() -> None:
    receiver, sender = aipc.pipe(framing="none")
    async with receiver, sender, aipc.popen(["sh", "-c", 'cat; exec "$@"', "sh", *BLOCKING], "r", stdin=receiver) as child:
        assert not os.get_blocking(receiver.extra(aipc.ChannelAttribute.descriptor))
        await receiver.aclose()
        await sender.send(b"late\n")
        await sender.send_eof()
        assert await output(child) == b"late\nTrue True\n"


async def test_both_on_a_socket() -> None:
    """A socket can't have a second description: it is handed over."""
    ours, theirs = aipc.channel_pair("stream")
    async with ours, aipc.pipeline("cat", "cat", stdin=theirs, stdout=theirs) as pipeline:
        assert theirs.extra(aipc.ChannelAttribute.descriptor) == -1
        with pytest.raises(anyio.ClosedResourceError):
            await theirs.receive()
        with anyio.fail_after(30):
            await ours.send(b"there and back")
            assert await ours.receive() == b"there and back"
            await ours.send_eof()
            assert await pipeline.wait() == [0, 0]
            with pytest.raises(anyio.EndOfStream):
                await ours.receive()


async def test_a_socket_stays_ours_if_the_child_cannot_start() -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        with pytest.raises(aipc.ObjectMissing):
            await aipc.popen("no-such-program", stdin=theirs)
        assert not os.get_blocking(theirs.extra(aipc.ChannelAttribute.descriptor))
        with anyio.fail_after(30):
            await ours.send(b"x")
            assert await theirs.receive() == b"x"


async def test_a_fifo(place: Path) -> None:
    path = place / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    async with (
        aipc.open_channel(f"fd:{reading}", framing="none") as receiver,
        aipc.open_channel(f"fd:{writing}", framing="none") as sender,
        aipc.popen("echo through", "w", stdout=sender) as child,
    ):
        await sender.aclose()
        assert await output(receiver) == b"through\n"
    assert child.returncode == 0


async def test_another_child() -> None:
    async with aipc.popen("echo one", "r") as first, aipc.popen("cat", "r", stdin=first) as second:
        assert await output(second) == b"one\n"


async def test_errors_into_a_pipe() -> None:
    receiver, sender = aipc.pipe(framing="lines")
    async with receiver, sender, aipc.popen("echo out; echo error >&2", shell=True, stderr=sender) as child:
        await sender.aclose()
        assert await output(child) == b"out\n"
        assert await output(receiver) == b"error"


async def test_what_it_refuses() -> None:
    receiver, sender = aipc.pipe()
    async with receiver, sender:
        with pytest.raises(aipc.AddressError, match=r"stdin=.*other way"):
            await aipc.popen("cat", stdin=sender)
        with pytest.raises(aipc.AddressError, match=r"stderr=.*other way"):
            await aipc.popen("cat", stderr=receiver)
        await receiver.aclose()
        with pytest.raises(aipc.UnsupportedOperation, match=r"stdin=.*closed"):
            await aipc.popen("cat", stdin=receiver)
    async with aipc.open_channel("sysv-mq:private") as queue:
        with pytest.raises(aipc.UnsupportedOperation, match="no descriptor"):
            await aipc.popen("cat", stdin=queue)
    with pytest.raises(aipc.ObjectMissing, match="stdout=999: that descriptor is not open"):
        await aipc.popen("true", "w", stdout=999)
