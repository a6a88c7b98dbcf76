"""Receptions in C, and what comes between: forks, loops that end, garbage, interrupts, other readers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from contextlib import closing
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc._io.loop import backend
from aipc.testing.expect import in_child, settle, until
from aipc.transports import byte_stream
from aipc.transports.unix.stream_channel import UnixChannel

from . import native, needs_native
from .receptions import FRAME, Receiver, connected, is_parked, where_the_loop_reads

pytestmark = [needs_native, pytest.mark.anyio]


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


@where_the_loop_reads
async def test_nothing_leaks() -> None:
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


@where_the_loop_reads
async def test_a_reception_is_awaited_once() -> None:
    async with connected() as (channel, peer):
        reception = native.reception(channel)
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
        assert await byte_stream._reception(channel) == b"a"


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


async def test_another_process_takes_the_bytes(anyio_backend_reads_ahead: bool) -> None:
    """Two channels on one socket: both see the event, and one of them finds nothing."""
    async with (
        connected() as (channel, peer),
        await aipc.open_channel(f"fd:{os.dup(channel._handle.fd)}?spin=0") as other,
        anyio.create_task_group() as tasks,
    ):
        twins = [channel, cast("UnixChannel", other)]
        for _ in range(3):  # each reads all that there is, and waits: then it parks in C
            for twin in twins:
                peer.send(FRAME(b"for this one"))
                assert twin.receive_nowait() == b"for this one"
            async with anyio.create_task_group() as waiting:
                for twin in twins:
                    waiting.start_soon(twin.receive)
                await settle()
                waiting.cancel_scope.cancel()
        receivers = [Receiver(twin) for twin in twins]
        for receiver in receivers:
            tasks.start_soon(receiver)
        await settle()
        assert [*map(is_parked, twins)] == [anyio_backend_reads_ahead] * 2
        peer.send(FRAME(b"for one"))
        await settle()
        peer.send(FRAME(b"for the other"))
        await until(lambda: all(receiver.got for receiver in receivers))
        assert sorted(receivers[0].got + receivers[1].got) == [b"for one", b"for the other"]


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


@where_the_loop_reads
async def test_garbage_is_collected_while_it_reads() -> None:
    """A coroutine that was stepped by hand is in a circle, and gone before its message is handed on."""
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


@where_the_loop_reads
async def test_a_step_by_hand_fails_and_leaves() -> None:
    async with connected() as (channel, peer):
        coroutine = channel.receive()
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="neither woken nor cancelled"):
            coroutine.send(None)
        assert not is_parked(channel)
        coroutine = channel.receive()
        coroutine.send(None)
        with pytest.raises(TypeError):
            coroutine.throw(cast(Any, 5))
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


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


@where_the_loop_reads
@pytest.mark.parametrize("error", [ValueError("not kept"), Interrupted("while it reads")])
async def test_what_fails_while_it_reads_is_told(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are lost, and so the stream is out of step: each `receive` says so. An interrupt goes on besides."""

    def fail(*_: object) -> None:
        raise error

    async with connected() as (channel, peer):
        task = asyncio.get_running_loop().create_task(channel.receive())
        await settle()
        peer.send(FRAME(b"1") + FRAME(b"2"))
        with monkeypatch.context() as patch:
            patch.setattr(UnixChannel, "_keep", fail)
            if isinstance(error, Exception):
                channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
                with pytest.raises(ValueError, match="not kept"):
                    await task
            else:
                with pytest.raises(Interrupted):
                    channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
                task.cancel()
                await asyncio.wait([task])
        with pytest.raises(type(error) if isinstance(error, Exception) else anyio.BrokenResourceError):
            await channel.receive()


@where_the_loop_reads
async def test_it_is_cancelled_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of a signal does so, under `asyncio.run`."""
    async with connected() as (channel, peer):
        task = asyncio.get_running_loop().create_task(channel.receive())
        await settle()
        peer.send(FRAME(b"1") + FRAME(b"2"))
        keep = UnixChannel._keep

        def cancel(channel: UnixChannel, data: bytes) -> None:
            keep(channel, data)
            task.cancel()

        with monkeypatch.context() as patch:
            patch.setattr(UnixChannel, "_keep", cancel)
            channel._handle.readable._reactor.poll_now()  # type: ignore[union-attr]
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [await channel.receive(), await channel.receive()] == [b"1", b"2"]


def test_how_a_reception_is_made() -> None:
    for wrong in (native.Reception, lambda: native.reception(None), lambda: native.Reception(channel=None)):
        with pytest.raises(TypeError):
            wrong()
