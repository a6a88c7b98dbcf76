"""`exec:`: the URL's forms, other programs at the other end, and relays between mechanisms."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

import aipc
from tests.children import exec_url
from tests.peers import require

pytestmark = pytest.mark.anyio


async def exchange(url: str, *lines: bytes) -> list[bytes]:
    """What the program answers to these lines."""
    with anyio.fail_after(30):
        async with aipc.open_channel(url, framing="lines") as channel:
            await channel.send_many(lines)
            await channel.send_eof()
            return [line async for line in channel]


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("exec:sort -u", [b"a", b"b"]),
        ("exec:///usr/bin/env sort -u", [b"a", b"b"]),
        ("exec:sort%20-u", [b"a", b"b"]),
        ("exec:sed 's/[ab]/%3F/'", [b"?", b"?", b"?"]),
        ("exec:sort | uniq -c | sed 's/ *//'?shell=1", [b"2 a", b"1 b"]),
    ],
)
async def test_commands(url: str, answer: list[bytes]) -> None:
    assert await exchange(url, b"b", b"a", b"a") == answer


async def test_frames_through_cat() -> None:
    async with aipc.open_channel("exec:cat") as channel, anyio.create_task_group() as tasks:
        messages = [b"", b"x" * 1_000_000, b"last"]
        tasks.start_soon(channel.send_many, messages)
        with anyio.fail_after(30):
            assert [await channel.receive() for _ in messages] == messages
        assert isinstance(channel, aipc.ProcessChannel)
        assert channel.returncode is None
        assert channel.pid > 0
    assert channel.returncode == 0


async def test_bytes_as_the_child_sees_them() -> None:
    code = "import os; data = os.read(0, 100); os.write(1, b'\\0\\0\\0\\x08' + repr(data).encode()[:8])"
    async with aipc.open_channel(exec_url(sys.executable, "-c", code)) as channel:
        await channel.send(b"hello")
        with anyio.fail_after(30):
            assert await channel.receive() == b"b'\\x00\\x"


async def test_a_child_that_ends_within_a_frame() -> None:
    async with aipc.open_channel(exec_url("printf", "\\0\\0\\0\\011half")) as channel:
        with anyio.fail_after(30), pytest.raises(aipc.ProtocolError):
            await channel.receive()


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("exec:", aipc.AddressError, "empty"),
        ("exec://host/sort", aipc.AddressError, "needs a command"),
        ("exec:no-such-program-here", aipc.ObjectMissing, "no-such-program-here"),
        ("exec:/etc/passwd", aipc.AccessDenied, "/etc/passwd"),
        ("exec:sort?shell=perhaps", aipc.AddressError, "shell"),
        ("exec:sort?mode=600", aipc.AddressError, "framing, max_message_size, shell"),
        ("exec:sort?framing=u16", aipc.AddressError, "u16"),
        ("exec:echo 'x", aipc.AddressError, "quotation"),
    ],
)
async def test_what_it_refuses(url: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await aipc.open_channel(url)


@pytest.mark.parametrize("framing", ["u32", "none"])
async def test_socat_relays_to_a_unix_socket(place: Path, framing: str) -> None:
    require("socat")
    listening = f"unix:{place}/socket?framing={framing}"
    relay = exec_url("socat", "-t30", "-", f"UNIX-CONNECT:{place}/socket") + f"?framing={framing}"
    with anyio.fail_after(60):
        async with (
            aipc.listen(listening) as listener,
            aipc.open_channel(relay) as ours,
            await listener.accept() as theirs,
            anyio.create_task_group() as tasks,
        ):
            there, back = b"there" * 100_000, b"back" * 100_000

            async def talk(channel: aipc.Channel, says: bytes, hears: bytes) -> None:
                async def say() -> None:
                    await channel.send(says)
                    await channel.send_eof()

                async with anyio.create_task_group() as both:
                    both.start_soon(say)
                    chunks = [chunk async for chunk in channel]
                assert b"".join(chunks) == hears
                assert framing == "none" or len(chunks) == 1

            tasks.start_soon(talk, ours, there, back)
            tasks.start_soon(talk, theirs, back, there)


async def test_our_own_program_at_the_other_end() -> None:
    code = """
import asyncio, aipc
async def main():
    async with aipc.open_channel("fd:0,1") as channel:
        async for message in channel:
            await channel.send(message.upper())
asyncio.run(main())
"""
    with anyio.fail_after(30):
        async with aipc.open_channel(exec_url(sys.executable, "-W", "error", "-c", code)) as channel:
            for _ in range(100):
                await channel.send(b"message")
                assert await channel.receive() == b"MESSAGE"
    assert isinstance(channel, aipc.ProcessChannel)
    assert channel.returncode == 0
