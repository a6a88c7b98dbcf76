"""Real-time signals as a channel: names, bytes, the end of a process, the kernel's limit; the peer is a C program where that matters."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, said
from ...subjects import CHANNEL_SIGNAL, drop_signals, fill, queued_signals, times

pytestmark = pytest.mark.anyio

URL = f"signal:{CHANNEL_SIGNAL}"
ME = os.getpid()


def integer(value: int) -> bytes:
    return struct.pack("=i", value)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    drop_signals()


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("signals", tmp_path_factory))


@pytest.mark.parametrize("name", ["SIGRTMIN+3", str(int(CHANNEL_SIGNAL)), f"SIGRTMAX-{signal.SIGRTMAX - CHANNEL_SIGNAL}"])
async def test_names(name: str) -> None:
    async with aipc.open_channel(f"signal:{name}?pid={ME}") as sender, aipc.open_channel(URL) as receiver:
        with anyio.fail_after(10):
            await sender.send(integer(7))
            assert await receiver.receive() == integer(7)


@pytest.mark.parametrize(
    "rest",
    ["", "SIGUSR1", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMIN+", "10", "33", "65", "-34", "RTMIN", "//34", "34?pid=0",
     "34?pid=-5", f"34?pid={1 << 40}"],
)  # fmt: skip
async def test_bad_address(rest: str) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError):
        await aipc.open_channel(f"signal:{rest}")


async def test_any_integer() -> None:
    async with aipc.open_channel(URL, pid=ME) as sender, aipc.open_channel(URL) as receiver:
        with anyio.fail_after(10):
            for value in (0, 1, -1, (1 << 31) - 1, -(1 << 31)):
                await sender.send(integer(value))
                message = await receiver.receive_message()
                assert (message.data, message.sender) == (integer(value), ME)
            aipc.send_signal(ME, CHANNEL_SIGNAL)  # without a value, as kill(1) sends it
            assert await receiver.receive() == integer(0)


@pytest.mark.parametrize(("size", "error"), [(0, aipc.InvalidMessage), (3, aipc.InvalidMessage), (5, aipc.MessageTooLarge)])
async def test_other_sizes(size: int, error: type[Exception]) -> None:
    async with aipc.open_channel(URL, pid=ME) as sender, aipc.open_channel(URL) as receiver:
        with anyio.fail_after(10), pytest.raises(error, match=f"{size} bytes"):
            await sender.send(bytes(size))
        with pytest.raises(anyio.WouldBlock):
            receiver.receive_nowait()
        assert sender.extra(aipc.ChannelAttribute.max_message_size) == 4


async def test_receive_many() -> None:
    """All that are there: more than one read gives."""
    async with aipc.open_channel(URL, pid=ME) as sender, aipc.open_channel(URL) as receiver:
        messages = [integer(value) for value in range(300)]
        with anyio.fail_after(10):
            await sender.send_many(messages)
            assert await receiver.receive_many(3) == messages[:3]
            assert await receiver.receive_many(130) == messages[3:133]
            assert await receiver.receive_many() == messages[133:]


async def test_process_that_ended() -> None:
    """A zombie, too, for which the kernel would take signals and forget them."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    async with aipc.open_channel(URL, pid=child.pid) as sender:
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        for _ in range(2):
            with anyio.fail_after(10), pytest.raises(anyio.BrokenResourceError, match="ended"):
                await sender.send(integer(1))
        child.wait()
        with anyio.fail_after(10), pytest.raises(anyio.BrokenResourceError, match="ended"):
            await sender.send(integer(1))
    for _ in range(2):
        with pytest.raises(aipc.ObjectMissing, match=str(child.pid)):
            await aipc.open_channel(URL, pid=child.pid)


async def test_process_that_ends_while_a_sender_waits() -> None:
    code = (
        "import resource, signal, sys\n"
        "resource.setrlimit(resource.RLIMIT_SIGPENDING, (20, resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]))\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(CHANNEL_SIGNAL)}])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with python(code) as child, anyio.fail_after(10):
        assert said(child) == "ready"
        async with aipc.open_channel(URL, pid=child.pid) as sender, anyio.create_task_group() as tasks:
            assert 0 < fill(sender, integer(1)) <= 20

            async def expect_broken() -> None:
                with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012 - sent until it raises
                    while True:  # while it dies, the kernel takes signals still, and drops them
                        await sender.send(integer(2))

            tasks.start_soon(expect_broken)
            await settle()
            child.kill()


async def test_not_allowed() -> None:
    """Another user's process can't be opened."""
    if os.getuid():
        with pytest.raises(aipc.AccessDenied):
            await aipc.open_channel(URL, pid=1)
        return
    code = (
        "import os, anyio, aipc\n"
        "async def main():\n"
        f"    opening = aipc.open_channel({URL!r}, pid={ME})\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "    try: await opening\n"
        "    except aipc.AccessDenied as error: print(error, flush=True)\n"
        "anyio.run(main)\n"
    )
    with python(code) as child:
        assert URL in said(child)


async def test_two_receivers_in_one_process() -> None:
    """As of a queue: each message goes to one of them."""
    async with (
        aipc.open_channel(URL, pid=ME) as sender,
        aipc.open_channel(URL) as one,
        aipc.open_channel(URL) as other,
    ):
        with anyio.fail_after(10):
            await sender.send_many([integer(1), integer(2), integer(3)])
            assert await one.receive() == integer(1)
            assert await other.receive_many() == [integer(2), integer(3)]
            await one.aclose()
            await sender.send(integer(4))
            assert await other.receive() == integer(4)


async def test_to_c(c_peer: str) -> None:
    with process(c_peer, "receive", str(int(CHANNEL_SIGNAL)), "5") as peer:
        pid = int(said(peer))
        async with aipc.open_channel(URL, pid=pid) as sender:
            with anyio.fail_after(10):
                await sender.send_many(integer(value) for value in (-2, -1, 0, 1, 2))
            assert [said(peer) for _ in range(5)] == [f"{value} {ME} {os.getuid()}" for value in (-2, -1, 0, 1, 2)]


MANY = times(10_000, 100_000)


async def test_to_c_beyond_the_limit(c_peer: str) -> None:
    """Many messages through a queue of a thousand: `send` waits for room; nothing is lost, and all is in order."""
    command = f"ulimit -i 1000; exec {c_peer} receive {int(CHANNEL_SIGNAL)} {MANY}"
    with process("bash", "-c", command) as peer:
        pid = int(said(peer))
        async with aipc.open_channel(URL, pid=pid) as sender:
            lines: list[str] = []

            def read() -> None:
                lines.extend(said(peer) for _ in range(MANY))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, read)
                with anyio.fail_after(60):
                    await sender.send_many(integer(value) for value in range(MANY))
        assert [line.split()[0] for line in lines] == [str(value) for value in range(MANY)]


async def test_from_c_beyond_the_limit(c_peer: str) -> None:
    with queued_signals(1_000):
        async with aipc.open_channel(URL) as receiver:
            with (
                process(c_peer, "send", str(ME), str(int(CHANNEL_SIGNAL)), str(-MANY // 2), str(MANY)) as peer,
                anyio.fail_after(60),
            ):
                got: list[bytes] = []
                while len(got) < MANY:
                    got += await receiver.receive_many()
                assert int(said(peer).split()[0]) == peer.pid
    assert got == [integer(value) for value in range(-MANY // 2, MANY // 2)]
