"""A task that parks on a Unix socket: the loop reads for it. It receives what Python's code would, and a cancellation loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc.exceptions import MessageTooLarge
from aipc.testing.expect import in_child, settle, until
from aipc.transports import byte_stream
from aipc.transports.unix.stream_channel import UnixChannel
from aipc.wire.framing import framing

from . import native, needs_native

pytestmark = [needs_native, pytest.mark.anyio]
FRAME = framing("u32").encode


@pytest.fixture
def anyio_backend_reads_ahead(anyio_backend: Any) -> bool:
    """Whether this test's loop reads ahead: trio's parks in Python."""
    return "trio" not in str(anyio_backend)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[UnixChannel, socket.socket]]:
    """A channel whose waits park at once, and know that nothing is there, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        async with await aipc.open_channel(f"fd:{ours.detach()}?spin=0") as opened:
            channel = cast("UnixChannel", opened)
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(channel.receive)
                    await settle()
                    theirs.send(FRAME(b"the first one is Python's"))
                yield channel, theirs


def is_parked(channel: UnixChannel) -> bool:
    """Whether a task is parked so that the loop reads for it."""
    return channel._handle.readable.reception is not None


class Receiver:
    """Receives in a task of its own."""

    def __init__(self, channel: UnixChannel, count: int = 1) -> None:
        self.channel, self.count = channel, count
        self.got: list[bytes] = []
        self.scope = anyio.CancelScope()

    async def __call__(self) -> None:
        with self.scope:
            while len(self.got) < self.count:
                self.got.append(await self.channel.receive())


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


@pytest.mark.parametrize("end", ["plain", "task"])
async def test_a_coroutine_that_is_closed_leaves(end: str, anyio_backend_reads_ahead: bool) -> None:
    if not anyio_backend_reads_ahead:
        return  # trio ends all its tasks by itself
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


async def test_a_forked_child_refuses() -> None:
    async with connected() as (channel, peer):

        def receive() -> None:
            with pytest.raises(aipc.ForkedError):
                channel.receive().send(None)

        in_child(receive)
        peer.send(FRAME(b"for the parent"))
        assert await channel.receive() == b"for the parent"


async def test_a_wait_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        with caplog.at_level(logging.DEBUG, "aipc"):
            tasks.start_soon(Receiver(channel))
            await settle()
            assert not is_parked(channel)  # Python's code tells
        peer.send(FRAME(b"a"))


async def test_who_waits_is_shown() -> None:
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(Receiver(channel), name="a task that waits")
        await settle()
        (waiting,) = [wait for wait in aipc.waiting_tasks() if wait.task == "a task that waits"]
        assert "readable" in waiting.purpose or "to read" in waiting.purpose
        peer.send(FRAME(b"a"))


def test_a_channel_moves_to_another_loop() -> None:
    ours, theirs = socket.socketpair()
    channels: list[Any] = []

    async def receive(what: bytes) -> None:
        if not channels:
            channels.append(await aipc.open_channel(f"fd:{ours.detach()}?spin=0"))
        with anyio.fail_after(10):
            for number in range(3):
                async with anyio.create_task_group() as tasks:
                    receiver = Receiver(channels[0])
                    tasks.start_soon(receiver)
                    await settle()
                    theirs.send(FRAME(what + b"%d" % number))
                assert receiver.got == [what + b"%d" % number]

    with closing(theirs):
        for name in ("asyncio", "uvloop", "trio", "asyncio", "uvloop"):
            backend.run(name, receive, name.encode())
        channels[0].close()


def test_a_loop_that_ends_under_a_parked_task() -> None:
    """Its task is gone, and the next loop's one is not in its place."""
    ours, theirs = socket.socketpair()

    async def park() -> Any:
        channel = await aipc.open_channel(f"fd:{ours.detach()}?spin=0")
        for _ in range(2):
            task = asyncio.get_running_loop().create_task(channel.receive())
            await settle()
            theirs.send(FRAME(b"a"))
            assert await task == b"a"
        tasks.append(asyncio.get_running_loop().create_task(channel.receive()))
        await settle()
        return channel

    tasks: list[Any] = []
    with closing(theirs):
        loop = asyncio.new_event_loop()
        channel = loop.run_until_complete(park())
        loop.close()
        theirs.send(FRAME(b"later"))

        async def later() -> bytes:
            with anyio.fail_after(10):
                return cast(bytes, await channel.receive())

        assert asyncio.run(later()) == b"later"
        channel.close()
        tasks[0]._log_destroy_pending = False
        tasks.clear()
        gc.collect()


async def test_nothing_leaks(anyio_backend_reads_ahead: bool) -> None:
    if not anyio_backend_reads_ahead:
        return  # it parks in Python
    async with connected() as (channel, peer):

        async def once() -> None:
            receiver = Receiver(channel)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receiver)
                await settle()
                peer.send(FRAME(b"a"))
            coroutine = channel.receive()
            coroutine.send(None)
            coroutine.close()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receiver := Receiver(channel))
                await settle()
                receiver.scope.cancel()

        async def references() -> list[int]:
            for _ in range(5):
                await once()
            gc.collect()
            watched = (channel, channel._handle.readable, native.Reception, True, None)
            return [sys.getrefcount(one) for one in watched] + [sys.getallocatedblocks()]

        await references()
        before = await references()
        after = await references()
        assert all(abs(new - old) < 100 for old, new in zip(before, after, strict=True)), (before, after)


async def test_a_reception_is_awaited_once(anyio_backend_reads_ahead: bool) -> None:
    if not anyio_backend_reads_ahead:
        return  # there is none
    async with connected() as (channel, peer):
        reception = native.Reception(channel)
        with pytest.raises(RuntimeError, match="not awaited"):
            reception.throw(ValueError)
        assert next(reception) is not None
        assert is_parked(channel)
        with pytest.raises(ValueError, match="thrown"):
            reception.throw(ValueError("thrown"))
        assert not is_parked(channel)
        with pytest.raises(RuntimeError, match="already"):
            next(reception)
        reception.close()
        peer.send(FRAME(b"a"))
        assert await byte_stream._Reception(channel) == b"a"


async def test_who_waits_first_keeps_its_place() -> None:
    """Another call takes the message before it runs."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        first, second = Receiver(channel), Receiver(channel)
        tasks.start_soon(first)
        await settle()
        tasks.start_soon(second)
        await settle()
        peer.send(FRAME(b"taken"))
        assert channel.receive_nowait() == b"taken"
        await settle()
        for number in (b"1", b"2"):
            peer.send(FRAME(number))
            await settle()
        assert (first.got, second.got) == ([b"1"], [b"2"])


@pytest.mark.parametrize("sent", [b"", FRAME(b"later")])
async def test_another_process_takes_the_bytes(sent: bytes) -> None:
    """Two channels on one socket: both see the event, and one of them finds nothing."""
    async with (
        connected() as (channel, peer),
        await aipc.open_channel(f"fd:{os.dup(channel._handle.fd)}?spin=0") as other,
        anyio.create_task_group() as tasks,
    ):
        twins = [channel, cast("UnixChannel", other)]
        peer.send(FRAME(b"so that it parks"))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as first:
                first.start_soon(twins[1].receive)
                await settle()
        receivers = [Receiver(twin) for twin in twins]
        for receiver in receivers:
            tasks.start_soon(receiver)
        await settle()
        peer.send(FRAME(b"for one"))
        await settle()
        peer.send(FRAME(b"for the other"))
        await until(lambda: all(receiver.got for receiver in receivers))
        assert sorted(receivers[0].got + receivers[1].got) == [b"for one", b"for the other"]
        peer.send(sent)


async def test_bytes_behind_urgent_data() -> None:
    """It ends a read, and nothing but an event tells (unix(7))."""
    async with connected() as (channel, peer), anyio.create_task_group() as tasks:
        receiver = Receiver(channel, 2)
        tasks.start_soon(receiver)
        await settle()
        peer.send(FRAME(b"before"))
        peer.send(b"!", socket.MSG_OOB)
        peer.send(FRAME(b"behind"))
        await until(lambda: len(receiver.got) == 2)
        assert receiver.got == [b"before", b"behind"]


async def test_garbage_is_collected_while_it_reads(anyio_backend_reads_ahead: bool) -> None:
    """A coroutine that was stepped by hand is in a circle, and gone before its message is handed on."""
    if not anyio_backend_reads_ahead:
        return  # a coroutine of trio's is stepped by trio only
    async with connected() as (channel, peer):
        circle: list[Any] = [channel.receive()]
        circle[0].send(None)
        circle.append(circle)
        peer.send(FRAME(b"1") + FRAME(b"2"))
        threshold = gc.get_threshold()
        del circle
        gc.set_threshold(1, 1, 1)
        try:
            channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert not is_parked(channel)
        with anyio.fail_after(10):
            assert [await channel.receive(), await channel.receive()] == [b"1", b"2"]


async def test_a_step_by_hand_fails_and_leaves(anyio_backend_reads_ahead: bool) -> None:
    if not anyio_backend_reads_ahead:
        return
    async with connected() as (channel, peer):
        coroutine = channel.receive()
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="await wasn't used"):
            coroutine.send(None)
        assert not is_parked(channel)
        assert channel._handle.readable.waiting == 0
        peer.send(FRAME(b"a"))
        assert await channel.receive() == b"a"


def test_a_rest_that_another_loop_left_is_sent() -> None:
    """A task that waits to receive goes on with it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def park() -> Any:
        channel = await aipc.open_channel(f"fd:{ours.detach()}?spin=0")
        task = asyncio.get_running_loop().create_task(channel.receive())
        await settle()
        theirs.send(FRAME(b"a"))
        await task
        return channel

    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            await channel.send(bytes(1 << 20))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def receive() -> None:
        got = 0
        task = asyncio.get_running_loop().create_task(channel.receive())
        with anyio.fail_after(10):
            while got < (1 << 20) + 4:
                try:
                    got += len(theirs.recv(1 << 20))
                except BlockingIOError:
                    await settle()
            theirs.send(FRAME(b"b"))
            assert await task == b"b"

    with closing(theirs), closing(first):
        channel = first.run_until_complete(park())
        with closing(second):
            second.run_until_complete(give_up())
        first.run_until_complete(receive())
        channel.close()


@pytest.mark.parametrize("traced", [False, True])
def test_asyncio_first_and_then_trio(traced: bool) -> None:
    """trio answers what its tasks yield, through the reception; under a tracer that takes another way."""
    ours, theirs = socket.socketpair()
    channels: list[Any] = []

    async def receive() -> None:
        if not channels:
            channels.append(await aipc.open_channel(f"fd:{ours.detach()}?spin=0"))
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receiver := Receiver(channels[0]))
                await settle()
                theirs.send(FRAME(b"a"))
            assert receiver.got == [b"a"]

    before = sys.gettrace()
    with closing(theirs):
        if traced:
            sys.settrace(lambda *_: None)
        try:
            for name in ("asyncio", "trio", "asyncio"):
                backend.run(name, receive)
        finally:
            sys.settrace(before)
        channels[0].close()
