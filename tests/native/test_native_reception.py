"""A task that parks on a Unix socket: the loop reads for it. It receives what Python's code would, and a cancellation loses nothing."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aipc._io.loop.spin import LONGEST
from aipc.exceptions import MessageTooLarge
from aipc.testing.expect import settle, until

from . import needs_native
from .receptions import FRAME, Receiver, connected, is_parked, where_the_loop_reads

pytestmark = [needs_native, pytest.mark.anyio]


async def test_the_loop_reads_for_a_task(anyio_backend_reads_ahead: bool) -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel, 3)
        tasks.start_soon(receiver)
        for message in (b"a", b"", b"b" * 5000):
            await settle()
            assert is_parked(channel) is anyio_backend_reads_ahead
            peer.send(FRAME(message))
        await until(lambda: len(receiver.got) == 3)
        assert receiver.got == [b"a", b"", b"b" * 5000]
        assert channel.statistics().messages_received == 4
        assert channel.statistics().bytes_received == sum(map(len, receiver.got)) + 25 + 4 * 4
        assert not is_parked(channel)


async def test_it_reads_without_the_task() -> None:
    """The message is the channel's as soon as the loop saw the event, though the task has not run."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel)
        tasks.start_soon(receiver)
        await settle()
        parked = is_parked(channel)
        peer.send(FRAME(b"read ahead"))
        channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
        assert channel._handle.readable.buffered == ([b"read ahead"] if parked else [])
        assert not receiver.got


@where_the_loop_reads
@pytest.mark.parametrize("why", ["penalty", "another one spins", "long waits", "nothing"])
@pytest.mark.usefixtures("all_features")
async def test_it_parks_unless_a_spin_pays(why: str) -> None:
    """As Python's own waits do; and a park counts a penalty down, as theirs."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        readable = channel._handle.readable
        readable.spins = True
        spin = readable._current_reactor().spin
        spin._skip = 2 if why == "penalty" else 0
        spin.active = why == "another one spins"
        spin.expected = LONGEST * (2 if why == "long waits" else 1 / 2)
        receiver = Receiver(channel)
        tasks.start_soon(receiver)
        await until(lambda: readable._first is not None)
        spin.active = False
        assert is_parked(channel) is (why != "nothing")
        if why == "penalty":
            assert spin._skip == 1
        peer.send(FRAME(b"a"))
        await until(lambda: receiver.got == [b"a"])


@pytest.mark.parametrize("when", ["before", "read", "woken"])
async def test_a_cancellation_loses_nothing(when: str) -> None:
    """Before the message comes; after the loop has read it; and so that both meet in one turn."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel)
        tasks.start_soon(receiver)
        await settle()
        if when == "before":
            receiver.scope.cancel()
            await settle()
        peer.send(FRAME(b"kept"))
        if when == "read":
            channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
        receiver.scope.cancel()
        await settle()
        assert not is_parked(channel)
        assert channel._handle.readable.waiting == 0
        peer.send(FRAME(b"next"))
        assert receiver.got + [await channel.receive() for _ in range(2 - len(receiver.got))] == [b"kept", b"next"]


@where_the_loop_reads
@pytest.mark.parametrize("end", ["plain", "task"])
async def test_a_coroutine_that_is_closed_leaves(end: str) -> None:
    async with connected() as (channel, peer):
        coroutine = channel.receive()
        if end == "plain":
            coroutine.send(None)
        else:
            task = asyncio.get_running_loop().create_task(coroutine)
            await settle()
            task.cancel()
        assert is_parked(channel)
        if end == "plain":
            coroutine.close()
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not is_parked(channel)
        assert channel._handle.readable.waiting == 0
        peer.send(FRAME(b"for the next one"))
        assert await channel.receive() == b"for the next one"


@pytest.mark.parametrize("split", range(1, 11))
async def test_a_message_in_two_parts(split: int) -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel, 2)
        tasks.start_soon(receiver)
        data = FRAME(b"first") + FRAME(b"")[: 4 * (split == 9)]
        await settle()
        peer.send(data[:split])
        await settle()
        peer.send(data[split:] + FRAME(b"second"))
        await until(lambda: len(receiver.got) == 2)
        assert receiver.got == [b"first", b"" if split == 9 else b"second"]


async def test_many_messages_at_once() -> None:
    messages = [b"%d" % number for number in range(1000)]
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel, len(messages))
        tasks.start_soon(receiver)
        await settle()
        peer.send(b"".join(map(bytes, map(FRAME, messages))))
        await until(lambda: len(receiver.got) == len(messages))
        assert receiver.got == messages


async def test_a_long_message() -> None:
    message = os.urandom(1 << 20)
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel, 2)
        tasks.start_soon(receiver)
        await settle()
        await anyio.to_thread.run_sync(peer.sendall, FRAME(b"before") + struct.pack(">I", len(message)) + message)
        await until(lambda: len(receiver.got) == 2)
        assert receiver.got == [b"before", message]


async def test_the_end_of_the_stream() -> None:
    async with connected() as (channel, peer):
        async with anyio.create_task_group() as tasks:
            receiver = Receiver(channel)
            tasks.start_soon(receiver)
            await settle()
            peer.send(FRAME(b"last"))
            peer.close()
        assert receiver.got == [b"last"]
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await channel.receive()


@pytest.mark.parametrize("what", ["close", "shutdown", "reset", "too long", "closed here"])
async def test_what_ends_a_wait(what: str) -> None:
    async with connected() as (channel, peer):
        expected: type[Exception] = anyio.EndOfStream
        failures: list[Exception] = []

        async def receive() -> None:
            try:
                await channel.receive()
            except Exception as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await settle()
            if what == "shutdown":
                peer.shutdown(socket.SHUT_WR)
            elif what == "too long":
                peer.send(b"\xff\xff\xff\xff")
                expected = MessageTooLarge
            elif what == "closed here":
                channel.close()
                expected = anyio.ClosedResourceError
            else:
                if what == "reset":
                    await channel.send(b"never read")
                    expected = anyio.BrokenResourceError
                peer.close()
        assert [type(error) for error in failures] == [expected]
        assert not is_parked(channel)


async def test_a_failed_read_is_told_again() -> None:
    """ECONNRESET comes once (unix(7)): whoever reads for a task must keep it."""
    async with connected() as (channel, _):
        channel._keep_error(104)
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError):
                await channel.receive()


async def test_two_tasks_wait_in_turn() -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        first, second = Receiver(channel), Receiver(channel)
        tasks.start_soon(first)
        await settle()
        tasks.start_soon(second)
        await settle()
        assert channel._handle.readable.waiting == 2
        peer.send(FRAME(b"1"))
        await settle()
        assert (first.got, second.got) == ([b"1"], [])
        peer.send(FRAME(b"2"))
        await until(lambda: second.got)
        assert second.got == [b"2"]


async def test_the_second_task_is_woken_if_the_first_gives_up() -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        first, second = Receiver(channel), Receiver(channel)
        tasks.start_soon(first)
        await settle()
        peer.send(FRAME(b"1"))
        channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
        tasks.start_soon(second)
        first.scope.cancel()
        await settle()
        if first.got:  # it was woken before
            peer.send(FRAME(b"2"))
        await until(lambda: second.got)
        assert first.got + second.got == [b"1", b"2"][: len(first.got) + 1]


async def test_descriptors_are_collected_meanwhile() -> None:
    """From then on Python reads."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel)
        tasks.start_soon(receiver)
        await settle()
        with anyio.move_on_after(0.01):
            await channel.receive_message()
        with open(os.devnull, "rb") as file:
            socket.send_fds(peer, [FRAME(b"with")], [file.fileno()])
        await until(lambda: receiver.got)
        with open(os.devnull, "rb") as file:
            socket.send_fds(peer, [FRAME(b"with another")], [file.fileno()])
        message = await channel.receive_message()
        assert message.data == b"with another"
        for fd in message.fds:
            os.close(fd)


@where_the_loop_reads
async def test_messages_that_another_task_has_left_come_first() -> None:
    """A task is parked and alone, but messages are left for one that was woken and has not run: the loop does not read over them."""
    async with connected() as (channel, peer):
        reactor = channel._handle.readable._current_reactor()
        got: list[bytes] = []

        async def receive_many() -> None:
            got.extend(await channel.receive_many())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_many)
            await settle()
            receiver = Receiver(channel)
            tasks.start_soon(receiver)
            peer.send(FRAME(b"so that the first task is woken in vain"))
            reactor.poll_now()
            channel.receive_nowait()
            await settle()
            peer.send(FRAME(b"1") + FRAME(b"2"))
            got.append(channel.receive_nowait())
            peer.send(FRAME(b"3"))
            reactor.poll_now()
            await until(lambda: len(got + receiver.got) == 3)
        assert sorted(got + receiver.got) == [b"1", b"2", b"3"]


@where_the_loop_reads
@pytest.mark.parametrize("spins", [False, True])
async def test_several_tasks_of_one_channel(*, spins: bool) -> None:
    """Each message is received once, whatever call takes it."""
    count = 10_000
    got: list[bytes] = []

    def send(peer: socket.socket) -> None:
        peer.setblocking(True)
        sizes, number = random.Random(1), 0
        while number < count:
            end = min(number + sizes.choice([1, 2, 3]), count)
            peer.sendall(b"".join(FRAME(b"%d" % each) for each in range(number, end)))
            number = end

    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        channel._handle.readable.spins = spins

        async def receive(*, many: bool) -> None:
            while True:
                got.extend(await channel.receive_many(1) if many else [await channel.receive()])
                await anyio.lowlevel.checkpoint()
                if len(got) == count:
                    tasks.cancel_scope.cancel()

        for many in (False, True, False):
            tasks.start_soon(partial(receive, many=many))
        await anyio.to_thread.run_sync(send, peer)
    assert sorted(map(int, got)) == list(range(count))
