"""Descriptors that a child inherits by number: blocking for the child, and ours as they were."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.processes.redirect import Passed

pytestmark = pytest.mark.anyio

TELLS = "import os, sys; n = int(sys.argv[1]); print(os.get_blocking(n), os.read(n, 100), sorted(os.listdir('/proc/self/fd')))"


def number(channel: aipc.Channel) -> int:
    return int(channel.extra(aipc.ChannelAttribute.descriptor))


def command(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


async def output(channel: aipc.Channel) -> bytes:
    with anyio.fail_after(30):
        return b"".join([chunk async for chunk in channel])


async def test_an_end_of_a_pipe() -> None:
    receiver, sender = aipc.pipe(framing="none")
    fd = number(receiver)
    async with receiver, sender, aipc.popen(command(TELLS, fd), pass_fds=[receiver]) as child:
        assert not os.get_blocking(fd)
        await receiver.aclose()
        await sender.send(b"hello")
        listing = sorted(["0", "1", "2", str(fd), next_free(fd)])
        assert (await output(child)).decode().split(maxsplit=2) == ["True", "b'hello'", f"{listing}\n"]
    assert child.returncode == 0


def next_free(fd: int) -> str:
    """The number that os.listdir has in the child."""
    return str(next(number for number in range(3, 9) if number != fd))


async def test_writing_and_the_end() -> None:
    """The child blocks as it writes more than a pipe holds; with our end closed, the child's is the last."""
    receiver, sender = aipc.pipe(framing="none")
    fd = number(sender)
    code = "import os, sys; n = int(sys.argv[1]); print(os.write(n, bytes(200_000)))"
    async with receiver, sender, aipc.popen(command(code, fd), pass_fds=[sender], dies_with_parent=True) as child:
        await sender.aclose()
        assert len(await output(receiver)) == 200_000
        assert await output(child) == b"200000\n"


async def test_an_aipc_program_at_the_other_end() -> None:
    code = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_channel(f"fd:{sys.argv[1]}") as channel:
        async for message in channel:
            await channel.send(message[::-1])
asyncio.run(main())
"""
    ours, theirs = aipc.channel_pair("stream")
    fd = number(theirs)
    async with ours, aipc.popen(command(code, fd), "w", pass_fds=[theirs]):
        assert number(theirs) == -1
        with anyio.fail_after(30):
            await ours.send(b"there and back")
            assert await ours.receive() == b"kcab dna ereht"
            await ours.send_eof()


async def test_numbers_and_files(place: Path) -> None:
    reading, writing = os.pipe()
    (place / "file").write_bytes(b"of a file")
    try:
        os.write(writing, b"of a pipe")
        os.set_blocking(reading, False)
        with (place / "file").open("rb") as file:
            code = "import os, sys; print([(os.get_blocking(int(n)), os.read(int(n), 99)) for n in sys.argv[1:]])"
            async with aipc.popen(command(code, reading, file.fileno()), pass_fds=[reading, file]) as child:
                assert await output(child) == b"[(True, b'of a pipe'), (True, b'of a file')]\n"
        assert not os.get_blocking(reading)
    finally:
        os.close(reading)
        os.close(writing)


async def test_the_hand_over_is_undone() -> None:
    """No such program: the socket's channel is open and non-blocking, as before."""
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        with pytest.raises(aipc.ObjectMissing):
            await aipc.popen("/no/such/program", pass_fds=[theirs])
        assert not os.get_blocking(number(theirs))
        await ours.send(b"still there")
        assert await theirs.receive() == b"still there"


@pytest.mark.parametrize(
    ("bad", "error"),
    [(-1, aipc.AddressError), (True, aipc.AddressError), ("3", aipc.AddressError), (9999, aipc.ObjectMissing)],
)
async def test_what_can_not_be_passed(bad: Passed, error: type[Exception]) -> None:
    with pytest.raises(error, match="pass_fds"):
        await aipc.popen("true", pass_fds=[bad])


async def test_a_closed_channel() -> None:
    receiver, sender = aipc.pipe()
    await sender.aclose()
    async with receiver:
        with pytest.raises(aipc.UnsupportedOperation, match="closed"):
            await aipc.popen("true", pass_fds=[sender])
