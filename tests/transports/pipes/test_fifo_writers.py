"""Many writers of one FIFO, or of one pipe: every message whole, none missing."""

from __future__ import annotations

import fcntl
import os
import signal
from collections import Counter
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel, ChannelAttribute
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle

from ...peers import compile_peer, process, python, said
from ...subjects import CANCELLATIONS, fill, times

pytestmark = pytest.mark.anyio

MESSAGES = times(50, 1_000)

WRITERS = """
import asyncio, os, sys, aipc
url, processes, channels, count, size = sys.argv[1], *map(int, sys.argv[2:])
async def write(writer):
    async with aipc.open_channel(url, direction="send") as channel:
        for number in range(count):
            start = b"%d %d " % (writer, number)
            await channel.send(start + b"%c" % (97 + writer % 26) * (size - len(start)))
async def write_all(first):
    await asyncio.gather(*(write(first + number) for number in range(channels)))
children = []
for process in range(processes):
    children.append(os.fork())
    if not children[-1]:
        asyncio.run(write_all(process * channels))
        os._exit(0)
print([os.waitpid(child, 0)[1] for child in children], flush=True)
"""


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("fifo", tmp_path_factory))


@pytest.fixture
def url(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "fifo")
    return f"fifo:{tmp_path}/fifo"


def sending(url: str, **options: object) -> aipc.Opening[Channel]:
    return aipc.open_channel(url, direction="send", **options)


async def check_all(receiver: Channel, writers: int, count: int, size: int) -> None:
    """Each writer's messages come in its order, and unmixed."""
    next_of: Counter[int] = Counter()
    for _ in range(writers * count):
        message = await receiver.receive()
        start = b"%d %d " % (writer := int(message[: message.index(b" ")]), next_of[writer])
        assert message == start + b"%c" % (97 + writer % 26) * (size - len(start))
        next_of[writer] += 1
    assert next_of == dict.fromkeys(range(writers), count)


async def test_64_channels_with_messages_of_4096_bytes(url: str) -> None:
    """4,100 bytes with their length: more than the kernel writes in one piece."""
    with python(WRITERS, url, "8", "8", str(MESSAGES), "4096") as writers, anyio.fail_after(60):
        async with aipc.open_channel(url, keep_open=True) as receiver:
            await check_all(receiver, 64, MESSAGES, 4_096)
        assert said(writers) == str([0] * 8)


async def test_64_c_processes_with_messages_of_4096_bytes(url: str, c_peer: str) -> None:
    """They take the same lock."""
    with process(c_peer, "send", url[5:], "lock", "64", str(MESSAGES), "4096") as writers, anyio.fail_after(60):
        async with aipc.open_channel(url, keep_open=True) as receiver:
            await check_all(receiver, 64, MESSAGES, 4_096)
        assert writers.wait(10) == 0


@pytest.mark.parametrize("size", [100, 4_092])
async def test_c_processes_without_a_lock_write_up_to_pipe_buf(size: int, url: str, c_peer: str) -> None:
    with process(c_peer, "send", url[5:], "u32", "16", "500", str(size)) as writers, anyio.fail_after(60):
        async with aipc.open_channel(url, keep_open=True) as receiver:
            await check_all(receiver, 16, 500, size)
        assert writers.wait(10) == 0


async def test_short_and_long_messages_of_several_writers(url: str) -> None:
    """Long ones of which the FIFO takes a part only, and short ones and batches that must not come in between."""
    sizes = [10, 4_092, 5_000, 40_000, 200_000]
    async with aipc.open_channel(url, keep_open=True) as receiver:
        got: Counter[bytes] = Counter()

        async def send(letter: bytes) -> None:
            async with sending(url) as sender:
                for size in sizes:
                    await sender.send(letter * size)
                await sender.send_many([letter * size for size in sizes])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                letters = [b"%c" % (97 + number) for number in range(10)]
                for letter in letters:
                    tasks.start_soon(send, letter)
                for _ in range(2 * len(sizes) * len(letters)):
                    got[await receiver.receive()] += 1
        assert Counter(map(len, got.elements())) == dict.fromkeys(sizes, 2 * len(letters))
        assert got == {letter * size: 2 for letter in letters for size in sizes}


async def test_nobody_writes_into_anothers_message(url: str) -> None:
    async with aipc.open_channel(url) as receiver, sending(url) as one, sending(url) as other:
        with anyio.fail_after(10):
            one.send_nowait(bytes(200_000))
            for message in (b"short", bytes(5_000), bytes(200_000)):
                with pytest.raises(anyio.WouldBlock):
                    other.send_nowait(message)
            assert await receiver.receive() == bytes(200_000)
            await other.send(b"short")
            other.send_nowait(bytes(5_000))
            assert await receiver.receive_many(1) == [b"short"]
            assert await receiver.receive() == bytes(5_000)


async def test_no_lock_is_held_between_messages(url: str) -> None:
    """Neither by a full FIFO, nor by a message that had no room, nor by one that was refused."""
    async with aipc.open_channel(url) as receiver, sending(url) as one, sending(url) as other:
        filled = fill(one, bytes(4_092))
        for size in (5_000, 200_000):
            with pytest.raises(anyio.WouldBlock):
                one.send_nowait(bytes(size))
        with pytest.raises(aipc.MessageTooLarge):
            one.send_nowait(bytes(17_000_000))
        for _ in range(filled):
            await receiver.receive()
        other.send_nowait(bytes(200_000))
        with anyio.fail_after(10):
            assert await receiver.receive() == bytes(200_000)


async def test_message_up_to_half_the_capacity_goes_in_one_piece(url: str) -> None:
    """So that a writer that is killed leaves no torn message, as long as its receiver keeps up."""
    async with aipc.open_channel(url) as receiver, sending(url) as sender:
        half = sender.extra(ChannelAttribute.capacity) // 2
        sender.send_nowait(bytes(4_092))
        with pytest.raises(anyio.WouldBlock):
            sender.send_nowait(bytes(half - 4))
        assert receiver.extra(ChannelAttribute.unread) == 4_096
        async with sending(url) as other:
            other.send_nowait(b"")  # meanwhile it is anybody's turn
        assert await receiver.receive_many() == [bytes(4_092), b""]
        sender.send_nowait(bytes(half - 4))
        assert len(await receiver.receive()) == half - 4


async def test_long_message_does_not_wait_for_ever_beside_short_ones(url: str) -> None:
    """A FIFO that others keep more than half full takes it all the same."""
    async with aipc.open_channel(url) as receiver, sending(url) as short, sending(url) as long:
        filled = fill(short, bytes(4_092))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(long.send, bytes(20_000))
                await settle()
                os.read(descriptor := receiver.extra(ChannelAttribute.descriptor), 4 * 4_096)
                while long.statistics().bytes_sent == 0:
                    await anyio.sleep(0.001)
                os.read(descriptor, 4_096)
                with pytest.raises(anyio.WouldBlock):  # there is room, but it is the long one's turn
                    short.send_nowait(b"")
                got = [await receiver.receive() for _ in range(filled - 5 + 1)]
        assert [len(message) for message in got] == [4_092] * (filled - 5) + [20_000]


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_given_up_message_frees_the_others(how: str, url: str) -> None:
    async with aipc.open_channel(url) as receiver, sending(url) as one, sending(url) as other:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.send, bytes(200_000))
                await settle()
                tasks.cancel_scope.cancel()
            if how == "close":
                copy = os.dup(one.extra(ChannelAttribute.descriptor))  # such as a forked child has
                await one.aclose()
                await os_drain(receiver)
                await other.send(b"mine")
                os.close(copy)
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.send, b"mine")
                assert [await receiver.receive() for _ in range(2)] == [bytes(200_000), b"mine"]


async def os_drain(receiver: Channel) -> None:
    """Read past the framing."""
    while receiver.extra(ChannelAttribute.unread):
        os.read(receiver.extra(ChannelAttribute.descriptor), 65_536)


async def test_batch_cut_at_the_end_of_a_message_frees_the_others(url: str) -> None:
    async with aipc.open_channel(url) as receiver, sending(url) as one, sending(url) as other:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.send_many, [bytes(4_092)] * 20)
                await settle()
                tasks.cancel_scope.cancel()
            assert await receiver.receive_many() == [bytes(4_092)] * 16
            other.send_nowait(b"mine")
            assert await receiver.receive() == b"mine"


async def test_waiting_for_anothers_turn_ends_with_the_channel(url: str) -> None:
    async with aipc.open_channel(url) as receiver, sending(url) as one, sending(url) as other:
        one.send_nowait(bytes(200_000))

        async def expect(error: type[Exception]) -> None:
            with pytest.raises(error):
                await other.send(b"mine")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect, anyio.BrokenResourceError)
                await settle()
                await receiver.aclose()  # the one that has the turn never learns of it: it does nothing
            async with aipc.open_channel(url), anyio.create_task_group() as tasks:
                tasks.start_soon(expect, anyio.ClosedResourceError)
                await settle()
                await other.aclose()


async def test_cancelled_wait_for_a_turn(url: str) -> None:
    """Wherever it is cancelled: sent wholly if it ended, else not at all, and the turn is not kept."""
    async with aipc.open_channel(url) as receiver, sending(url) as sender:
        other = os.open(url[5:], os.O_WRONLY | os.O_NONBLOCK)
        cancelled = attempts = 0
        with anyio.fail_after(60):
            while cancelled < CANCELLATIONS:
                at, ready_at, moment = attempts % 5, attempts // 5 % 5, list(Moment)[attempts % 2]
                message = b"%d" % attempts + bytes(attempts % 3 * 4_000)
                attempts += 1
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

                def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                    if parked or number >= ready_at:
                        fcntl.flock(other, fcntl.LOCK_UN)

                outcome = await inject(sender.send(message), at, moment, suspended)
                cancelled += outcome is CANCELLED
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(other, fcntl.LOCK_UN)
                if outcome is CANCELLED:
                    with pytest.raises(anyio.WouldBlock):
                        receiver.receive_nowait()
                else:
                    assert receiver.receive_nowait() == message
        os.close(other)


KILLED = """
import asyncio, sys, aipc
async def main():
    async with aipc.open_channel(sys.argv[1], direction="send") as channel:
        channel.send_nowait(bytes(200_000))
        print("begun", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_killed_writer_frees_the_others(url: str) -> None:
    """Its message is torn: nobody can help that. But nobody waits for it."""
    async with aipc.open_channel(url) as receiver, sending(url) as other:
        with python(KILLED, url) as writer, anyio.fail_after(20):
            assert said(writer) == "begun"
            with pytest.raises(anyio.WouldBlock):
                other.send_nowait(b"mine")
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
            await os_drain(receiver)
            other.send_nowait(b"mine")
            assert await receiver.receive() == b"mine"
