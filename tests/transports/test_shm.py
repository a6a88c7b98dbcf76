"""What is peculiar to the ring: sizes, loans and views, ends, barriers, and a peer in C."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import RingChannel
from aipc._sys import membarrier
from aipc.testing.expect import settle
from aipc.transports.shm_channel import pair

from ..conftest import LOOPS
from ..peers import compile_peer, process, python, said
from ..subjects import fill

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def connected(place: Path, capacity: int = 4096, limit: int = 1 << 20) -> AsyncIterator[tuple[RingChannel, RingChannel]]:
    """The client's and the server's channel."""
    url = f"shm:{place}/ring"
    async with (
        aipc.listen(url, capacity=capacity, max_message_size=limit) as listener,
        aipc.open_channel(url, capacity=capacity, max_message_size=limit) as ours,
        await listener.accept() as theirs,
    ):
        assert isinstance(ours, RingChannel)
        assert isinstance(theirs, RingChannel)
        yield ours, theirs


def parked(channel: RingChannel) -> bool:
    """Whether a task waits for the doorbell, and does not look again in each turn of the loop."""
    waiting = channel._handle.readable
    return waiting.awaited or waiting._trio_waits


async def meet(ours: RingChannel, theirs: RingChannel) -> None:
    """A message each way."""
    for one, other in ((ours, theirs), (theirs, ours)):
        await one.send(b"meet")
        assert await other.receive() == b"meet"


@pytest.mark.parametrize("capacity", [1 << 12, 1 << 16, 1 << 20, 1 << 23])
async def test_sizes(capacity: int, place: Path) -> None:
    """Messages that just fit, just don't, and are several times as long as the ring, in both directions."""
    half = capacity // 2
    sizes = [0, 1, 7, 8, 9, 100, half - 9, half - 8, half - 7, half, capacity - 17, capacity - 8, capacity, 4 * capacity, 3]
    payload = os.urandom(251) * (4 * capacity // 251 + 1)
    async with connected(place, capacity, 4 * capacity) as (ours, theirs):
        for one, other in ((ours, theirs), (theirs, ours)):
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.send_many, [payload[:size] for size in sizes])
                    for size in sizes:
                        assert await other.receive() == payload[:size]
            sent, received = one.statistics(), other.statistics()
            assert sent.messages_sent == received.messages_received == len(sizes)
            assert sent.bytes_sent == received.bytes_received > sum(sizes)


async def test_two_long_messages_and_short_ones_at_once(place: Path) -> None:
    """Each arrives whole; none overtakes the part of another."""
    messages = [bytes([number]) * size for number, size in enumerate([50_000, 3, 70_000, 500, 40_000, 0])]
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for message in messages:
                    tasks.start_soon(ours.send, message)
                await settle()
                got = [await theirs.receive() for _ in messages]
    assert sorted(got) == sorted(messages)


async def test_loan_is_sent_exactly() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        for number in range(100):
            message = os.urandom(number * 20)
            async with ours.loan(len(message)) as view:
                assert len(view) == len(message)
                view[:] = message
                with pytest.raises(anyio.WouldBlock):
                    theirs.receive_nowait()
            assert theirs.receive_nowait() == message


async def test_loan_given_up_sends_nothing() -> None:
    ours, theirs = pair(4096)

    async def give_up() -> None:
        async with ours.loan(1000) as view:
            view[:] = b"x" * 1000
            raise ZeroDivisionError

    async with ours, theirs:
        for _ in range(20):  # more than the ring has room for
            with pytest.raises(ZeroDivisionError):
                await give_up()
        await ours.send(b"after")
        assert await theirs.receive() == b"after"
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()


async def test_loan_too_large() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        for size in (2041, -1, 1 << 40):
            with pytest.raises(aipc.MessageTooLarge, match="2,040"):
                async with ours.loan(size):
                    pass
        async with ours.loan(2040) as view:
            view[:] = b"x" * 2040
        assert await theirs.receive() == b"x" * 2040


async def test_others_wait_for_a_loan() -> None:
    """Sends and loans of other tasks wait for the block's end, without keeping the loop busy, and keep their order."""
    ours, theirs = pair(4096)

    async def lend(message: bytes) -> None:
        async with ours.loan(len(message)) as view:
            view[:] = message

    async with ours, theirs, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            await ours.send(b"first")
            async with ours.loan(4) as view:
                tasks.start_soon(ours.send, b"third")
                tasks.start_soon(lend, b"fourth")
                assert await theirs.receive() == b"first"  # there is room, which must not make them try for ever
                await settle()
                before = ours._producer.position
                await anyio.sleep(0.01)
                assert parked(ours)
                assert ours._producer.position == before
                with pytest.raises(anyio.WouldBlock):
                    ours.send_nowait(b"x")
                view[:] = b"next"
            got = [await theirs.receive() for _ in range(3)]
    assert got[0] == b"next"
    assert set(got[1:]) == {b"third", b"fourth"}


async def test_view_of_a_message(place: Path) -> None:
    """It is the message, in place; other receivers wait for the next one, and do not keep the loop busy."""
    async with connected(place) as (ours, theirs), anyio.create_task_group() as tasks:
        got: list[bytes] = []

        async def receive() -> None:
            got.append(await theirs.receive())

        async def stumble() -> None:
            async with theirs.receive_view():
                raise ZeroDivisionError

        with anyio.fail_after(10):
            await ours.send_many([b"one", b"two", b""])
            async with theirs.receive_view() as view:
                assert bytes(view) == b"one"
                tasks.start_soon(receive)
                await settle()
                assert parked(theirs)
                assert got == []
                with pytest.raises(anyio.WouldBlock):
                    theirs.receive_nowait()
            while not got:
                await settle()
            assert got == [b"two"]
            async with theirs.receive_view() as view:
                assert len(view) == 0
            with pytest.raises(ValueError, match="released"):
                view[0]
            tasks.start_soon(ours.send, b"in parts" * 1000)
            async with theirs.receive_view() as view:
                assert bytes(view) == b"in parts" * 1000
            await ours.send(b"seen is taken")
            with pytest.raises(ZeroDivisionError):
                await stumble()
            await ours.send(b"last")
            assert await theirs.receive() == b"last"
    assert theirs.statistics().messages_received == 6


async def test_what_was_made_of_a_view_is_still_in_use() -> None:
    """An error that says so; a loan is not sent, a message that was seen is taken, and both go on."""
    ours, theirs = pair(4096)
    arrays = []

    async def keep(block: AbstractAsyncContextManager[memoryview]) -> None:
        async with block as view:
            arrays.append(pickle.PickleBuffer(view))  # holds on to it as numpy.frombuffer does

    async with ours, theirs:
        with pytest.raises(BufferError, match="still in use"):
            await keep(ours.loan(8))
        await ours.send(b"sent")
        with pytest.raises(BufferError, match="still in use"):
            await keep(theirs.receive_view())
        assert arrays[1].raw() == b"sent"
        arrays.clear()
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()
        await meet(ours, theirs)


async def test_closed_inside_a_block() -> None:
    """The view can be used to the end of the block; a loan is not sent."""
    ours, theirs = pair(4096)
    async with ours, theirs:
        await ours.send(b"seen")
        async with theirs.receive_view() as view:
            await theirs.aclose()
            assert bytes(view) == b"seen"
        with pytest.raises(anyio.BrokenResourceError):
            async with ours.loan(4):
                pass
    ours, theirs = pair(4096)

    async def close_and_write() -> None:
        async with ours.loan(4) as view:
            await ours.aclose()
            view[:] = b"lost"

    async with ours, theirs:
        with pytest.raises(anyio.ClosedResourceError):
            await close_and_write()
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()


async def test_send_to_closed_peer_fails_at_once(place: Path) -> None:
    async with connected(place) as (ours, theirs):
        await meet(ours, theirs)
        await theirs.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"to nobody")
        with pytest.raises(anyio.BrokenResourceError):
            async with ours.loan(1):
                pass


async def test_closed_in_the_middle_of_a_message(place: Path) -> None:
    async with connected(place) as (ours, theirs):
        await ours.send(b"whole")
        ours.send_nowait(bytes(100_000))
        await ours.aclose()
        assert await theirs.receive() == b"whole"
        with pytest.raises(aipc.ProtocolError, match="middle"):
            await theirs.receive()


async def test_use_after_send_eof() -> None:
    ours, theirs = pair(4096)
    async with ours, theirs:
        await meet(ours, theirs)
        await ours.send(b"last")
        await ours.send_eof()
        for operation in (lambda: ours.send(b"x"), lambda: ours.send_many([b"x"]), lambda: ours.loan(1).__aenter__()):
            with pytest.raises(anyio.ClosedResourceError):
                await operation()
        assert await theirs.receive() == b"last"
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        await theirs.send(b"the other way")
        assert await ours.receive() == b"the other way"


async def test_client_that_left_before_it_was_accepted(place: Path) -> None:
    """What it sent is received, then the end."""
    url = f"shm:{place}/ring"
    async with aipc.listen(url) as listener:
        async with aipc.open_channel(url) as ours:
            await ours.send_many([b"one", b"two" * 1000])
        async with await listener.accept() as theirs:
            assert theirs.receive_nowait() == b"one"
            assert await theirs.receive() == b"two" * 1000
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()


async def test_window_of_the_listener(place: Path) -> None:
    """Its `capacity` bounds what waits unread in its direction, whatever the client's memory is."""
    url = f"shm:{place}/ring"
    async with (
        aipc.listen(url, capacity=4096) as listener,
        aipc.open_channel(url, capacity=1 << 20) as ours,
        await listener.accept() as theirs,
    ):
        fill(theirs, bytes(100))
        assert 3_000 < theirs.statistics().bytes_sent <= 4096
        for _ in range(100):
            ours.send_nowait(bytes(100))
        with anyio.fail_after(10):
            for _ in range(theirs.statistics().messages_sent):
                await ours.receive()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(theirs.send, bytes(100_000))
                assert await ours.receive() == bytes(100_000)


@pytest.mark.parametrize("capacity", [2048, 4095, 5000, 1 << 31])
async def test_capacity_is_a_power_of_two(capacity: int, place: Path) -> None:
    for opener in (aipc.open_channel, aipc.listen):
        with pytest.raises(aipc.AddressError, match="power of two"):
            await opener(f"shm:{place}/ring", capacity=capacity)


async def test_peer_credentials(place: Path) -> None:
    async with connected(place) as (ours, _):
        assert ours.extra(aipc.ChannelAttribute.peer_credentials).pid == os.getpid()
        assert ours.extra(aipc.ChannelAttribute.max_message_size) == 1 << 20


def test_forked_child_is_refused() -> None:
    """In every way in; the parent's ring stays as it was."""
    ours, theirs = pair(4096)

    async def refused() -> None:
        for operation in (
            lambda: ours.send(b"x"),
            lambda: ours.send_many([b"x"]),
            ours.receive,
            ours.receive_many,
            lambda: ours.loan(1).__aenter__(),
            lambda: ours.receive_view().__aenter__(),
        ):
            with pytest.raises(aipc.ForkedError):
                await operation()
        with pytest.raises(aipc.ForkedError):
            ours.send_nowait(b"x")

    async def fork() -> None:
        async with ours.loan(4):
            if os.fork():
                os.wait()
                raise aipc.ForkedError

    async def fork_within_a_loan() -> None:
        await meet(ours, theirs)
        async with ours.loan(4) as view:
            view[:] = b"once"
        with pytest.raises(aipc.ForkedError):
            await fork()
        if os.getpid() != parent:
            await refused()
            os._exit(0)
        assert await theirs.receive() == b"once"
        with pytest.raises(anyio.WouldBlock):
            theirs.receive_nowait()

    parent = os.getpid()
    try:
        anyio.run(fork_within_a_loan)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    ours.close()
    theirs.close()


ECHO = """
import asyncio, sys
import aipc
async def main():
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring", capacity=int(sys.argv[2])) as channel:
        async for message in channel:
            await channel.send(message[::-1])
asyncio.run(main())
"""


async def echoed(channel: aipc.Channel, sizes: list[int]) -> None:
    """Messages go to a peer that sends them back reversed; some alone, some in a crowd."""
    messages = [os.urandom(size) for size in sizes]
    with anyio.fail_after(60):
        for message in messages:
            await channel.send(message)
            assert await channel.receive() == message[::-1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send_many, messages * 5)
            for message in messages * 5:
                assert await channel.receive() == message[::-1]


SIZES = [0, 1, 100, 2040, 2041, 5000, 20_000, 3, 1000]


async def test_two_processes(place: Path) -> None:
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with python(ECHO, str(place), "4096") as peer:
            async with await listener.accept() as channel:
                await echoed(channel, SIZES)
                await channel.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await channel.receive()
                assert peer.wait() == 0


@pytest.mark.parametrize("ours", ["membarrier", "order", "membarrier,order", "membarrier,order,spin", ""])
@pytest.mark.parametrize("theirs", ["membarrier,order", "order,spin", ""])
def test_without_order_or_barriers(ours: str, theirs: str, place: Path) -> None:
    """Each side may have what the other lacks: fences in Python, a ring for each message."""
    server = f"""
import asyncio, os, sys
import aipc
async def main():
    async with aipc.listen("shm:{place}/ring") as listener:
        print("ready", flush=True)
        async with await listener.accept() as channel:
            for size in {SIZES} * 20:
                message = os.urandom(size)
                await channel.send(message)
                assert await channel.receive() == message[::-1]
                if size == 1000:
                    await asyncio.sleep(0.001)  # the peer parks
asyncio.run(main())
"""
    environment = dict(os.environ, AIPC_DISABLE=ours)
    command = [sys.executable, "-c", "import signal; signal.alarm(60)\n" + server]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serving:
        assert said(serving) == "ready"
        environment["AIPC_DISABLE"] = theirs
        subprocess.run([sys.executable, "-c", ECHO, str(place), "4096"], check=True, timeout=60, env=environment)
        assert serving.wait() == 0


def test_barriers_are_where_they_should_be() -> None:
    """On a machine with store order and membarrier(2), as each that runs these tests is, no fence; switched off, one."""
    command = "from aipc._sys import membarrier as m; b = m.Barriers(); print(b.fence is None, b.everywhere is None)"
    for disabled, expected in (("", "True False"), ("order", "False False"), ("membarrier", "True True")):
        done = subprocess.run(
            [sys.executable, "-c", command],
            check=True,
            capture_output=True,
            text=True,
            env=dict(os.environ, AIPC_DISABLE=disabled),
        )
        if disabled or membarrier.registered():
            assert done.stdout.strip() == expected


IDLE = """
import resource, sys, time
import anyio, aipc
async def main():
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring") as channel, anyio.create_task_group() as tasks:
        await channel.send(b"hello")
        assert await channel.receive() == b"hello"
        tasks.start_soon(channel.receive)
        await anyio.sleep(0.2)
        before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.process_time()
        await anyio.sleep(1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before, time.process_time() - cpu, flush=True)
        tasks.cancel_scope.cancel()
loop = sys.argv[2]
anyio.run(main, backend=loop.replace("uvloop", "asyncio"), backend_options={"use_uvloop": True} if loop == "uvloop" else {})
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_channel_does_not_wake_the_loop(loop: str, place: Path) -> None:
    """In a second, a process that waits sleeps once: for the clock that ends the second."""

    async def serve() -> None:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            with python(IDLE, str(place), loop) as idle:
                async with await listener.accept() as channel:
                    await channel.send(await channel.receive())
                    switches, seconds = said(idle).split()
                    assert int(switches) <= 3
                    assert float(seconds) < 0.01

    anyio.run(serve)


async def test_killed_reader_is_noticed(place: Path) -> None:
    """By a sender that sends little, long before the ring is full."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with python(ECHO, str(place), str(1 << 22)) as peer:
            async with await listener.accept() as channel:

                async def send_each(messages: list[bytes], channel: aipc.Channel = channel) -> None:
                    for message in messages:
                        await channel.send(message)

                await echoed(channel, [1])
                os.kill(peer.pid, signal.SIGKILL)
                peer.wait()
                with pytest.raises(anyio.BrokenResourceError):
                    await send_each([b"x"] * 1_000)


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_peer("shm", tmp_path_factory)


def turned(message: bytes) -> bytes:
    return bytes(byte ^ 255 for byte in message)


async def talk_with_c(channel: aipc.Channel) -> None:
    messages = [os.urandom(size) for size in SIZES]
    with anyio.fail_after(60):
        for message in messages:
            await channel.send(message)
            assert await channel.receive() == turned(message)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.send_many, messages * 20)
            for message in messages * 20:
                assert await channel.receive() == turned(message)
        await channel.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()


async def test_c_client(c_peer: Path, place: Path) -> None:
    """It brings the memory."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with process(str(c_peer), "connect", f"{place}/ring", "4096") as peer:
            async with await listener.accept() as channel:
                await talk_with_c(channel)
            assert peer.wait() == 0


async def test_c_server(c_peer: Path, place: Path) -> None:
    """It takes ours."""
    with process(str(c_peer), "listen", f"{place}/ring") as peer:
        assert said(peer) == "ready"
        async with aipc.open_channel(f"shm:{place}/ring", capacity=4096) as channel:
            await talk_with_c(channel)
        assert peer.wait() == 0
