"""The wait that spins in C: it reads exactly what a read in Python would, and leaves all else to it."""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc._io.loop import backend
from aipc._io.loop.reactor import reactor_of
from aipc._io.loop.spin import Spin
from aipc._io.readiness import Readiness
from aipc.exceptions import MessageTooLarge
from aipc.testing.expect import settle
from aipc.transports import byte_stream, spin_in_c
from aipc.wire.framing import framing
from aipc.wire.ring_consumer import Consumer

from . import native, needs_native
from .test_native_ring import Bell, Unordered, memory

pytestmark = needs_native
FRAME = framing("u32").encode


class Watched:
    """A connected socket in an epoll set, edge-triggered, and its peer."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.ours, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def spin(self, looks: int = 3, limit: int = 1000) -> Any:
        return native.spin(self.epoll.fileno(), self.ours.fileno(), looks, 4, limit)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.epoll.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


@pytest.mark.parametrize("message", [b"", b"a", b"x" * 64, b"x" * 1000])
def test_one_message(watched: Watched, message: bytes) -> None:
    watched.theirs.send(FRAME(message))
    assert watched.spin() == (message,)
    assert watched.spin() is None


@pytest.mark.parametrize(
    "data", [b"\0", b"\0\0\0", FRAME(b"abc")[:-1], FRAME(b"abc") + b"\0", FRAME(b"a") * 2, FRAME(b"x" * 1001)]
)
def test_anything_else_comes_as_it_is(watched: Watched, data: bytes) -> None:
    watched.theirs.send(data)
    assert watched.spin() == data


@pytest.mark.parametrize("data", [b"abc", FRAME(b"abc"), b"\0" * 8])
def test_bytes_without_a_length(watched: Watched, data: bytes) -> None:
    watched.theirs.send(data)
    assert native.spin(watched.epoll.fileno(), watched.ours.fileno(), 3, 0, 0) == data


def test_more_than_one_read(watched: Watched) -> None:
    """A read that filled the buffer may have left something."""
    data = FRAME(b"x" * (native.MOST_READ - 4))
    watched.theirs.send(data)
    assert watched.spin(limit=1 << 20) == data
    watched.theirs.send(data + b"more")
    assert watched.spin(limit=1 << 20) == data
    assert watched.ours.recv(100) == b"more"


@pytest.mark.parametrize("data", [FRAME(b"abc"), b"abc", b""])
def test_reads_between_the_looks_for_events(watched: Watched, data: bytes) -> None:
    """Of another descriptor, of which the set knows nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert native.spin(watched.epoll.fileno(), ours.fileno(), 4, 4, 1000) is None
        if data:
            theirs.send(data)
        else:
            theirs.close()
        assert native.spin(watched.epoll.fileno(), ours.fileno(), 1, 4, 1000) is None
        assert native.spin(watched.epoll.fileno(), ours.fileno(), 2, 4, 1000) == ((b"abc",) if len(data) > 3 else data)
    with pytest.raises(OSError, match="Bad file descriptor"):
        native.spin(watched.epoll.fileno(), -1, 2, 4, 10)
    assert native.spin(watched.epoll.fileno(), -1, 1, 4, 10) is None


def test_nothing(watched: Watched) -> None:
    assert watched.spin() is None
    assert watched.spin(looks=0) is None
    assert watched.spin(looks=-1) is None


def test_somebody_else_has_read_it(watched: Watched) -> None:
    watched.theirs.send(FRAME(b"a"))
    watched.ours.recv(100)
    watched.epoll.modify(watched.ours, select.EPOLLIN | select.EPOLLOUT)  # an event all the same
    assert watched.spin() == [(watched.ours.fileno(), select.EPOLLOUT)]
    watched.epoll.modify(watched.ours, select.EPOLLIN | select.EPOLLET)
    assert watched.spin() is None


def test_the_end_and_other_descriptors_are_left_to_python(watched: Watched) -> None:
    other, peer = socket.socketpair()
    with other, peer:
        watched.epoll.register(other, select.EPOLLIN)
        peer.send(b"a")
        watched.theirs.send(FRAME(b"a"))
        assert sorted(watched.spin()) == sorted([(watched.ours.fileno(), select.EPOLLIN), (other.fileno(), select.EPOLLIN)])
        assert watched.spin() == [(other.fileno(), select.EPOLLIN)]  # it is level-triggered
        assert watched.ours.recv(100) == FRAME(b"a")
        other.recv(1)
        watched.theirs.close()
        ((fd, event),) = watched.spin()
        assert fd == watched.ours.fileno()
        assert event & select.EPOLLHUP


def test_a_bad_set(watched: Watched) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        native.spin(-1, watched.ours.fileno(), 1, 4, 10)


async def waited(channel: aipc.Channel, peer: aipc.Channel) -> None:
    """From here on the channel's reads may rely on edges, and so the next ones spin."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        await settle()
        await peer.send(b"first")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the spins of this test gave: they begin each wait, whatever processes share the machine."""

    class Native:
        def spin(self, *arguments: Any) -> Any:
            found = native.spin(*arguments)
            taken.append(found)
            return found

    taken: list[Any] = []
    monkeypatch.setattr(spin_in_c, "native", Native())
    monkeypatch.setattr(byte_stream, "QUICK", 0)
    monkeypatch.setattr(Spin, "pays", lambda self, longest=0.0: True)
    monkeypatch.setattr(Spin, "brief", False)
    monkeypatch.setattr(Readiness, "turns_first", lambda self, reactor: False)
    return taken


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_a_channel_receives(taken: list[Any]) -> None:
    """One message, several in one read, and the parts of one, each behind a wait."""
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        await waited(ours, theirs)
        fd = theirs.extra(aipc.ChannelAttribute.descriptor)
        with anyio.fail_after(10):
            for number in range(10):
                await theirs.send(b"%d" % number)
                assert await ours.receive() == b"%d" % number
            os.write(fd, FRAME(b"a") + FRAME(b"b") + FRAME(b"cde")[:-1])
            assert [await ours.receive(), await ours.receive()] == [b"a", b"b"]
            os.write(fd, FRAME(b"cde")[-1:])
            assert await ours.receive() == b"cde"
            await theirs.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await ours.receive()
        assert ours.statistics().messages_received == 14
        assert ours.statistics().bytes_received == 4 * 14 + len(b"first") + 10 + len(b"abcde")
    assert any(isinstance(found, tuple) for found in taken)
    assert any(isinstance(found, bytes) for found in taken)


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features", "taken")
async def test_a_quick_peer_does_not_keep_the_loop() -> None:
    """A task that always meets its message at once gives others their turn as often as one that reads in Python."""
    ours, theirs = aipc.channel_pair("stream")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with ours, theirs, anyio.create_task_group() as tasks:
        await waited(ours, theirs)
        tasks.start_soon(other)
        for _ in range(100):
            await theirs.send(b"a")
            assert await ours.receive() == b"a"
        tasks.cancel_scope.cancel()
    assert turns >= 4  # after each 16 messages; trio runs tasks in any order


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_on_the_only_processor_it_gives_way_and_looks_once(taken: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer answers while it has the processor."""
    answers = [b"one", b"two"]
    ours, theirs = aipc.channel_pair("stream")

    def sched_yield() -> None:
        os.write(fd, FRAME(answers.pop(0)))

    async with ours, theirs:
        await waited(ours, theirs)
        fd = theirs.extra(aipc.ChannelAttribute.descriptor)
        reactor_of(backend.current()).spin._shared = True
        monkeypatch.setattr(Spin, "brief", True)
        monkeypatch.setattr(os, "sched_yield", sched_yield)
        taken.clear()
        with anyio.fail_after(10):
            assert await ours.receive() == b"one"
            reactor_of(backend.current()).spin._shared = True
            assert await ours.receive() == b"two"
        monkeypatch.undo()
    assert taken == [(b"one",), (b"two",)]


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_a_channel_is_iterated_over(taken: list[Any]) -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        await waited(ours, theirs)
        got = []
        with anyio.fail_after(10):
            await theirs.send(b"0")
            async for message in ours:
                got.append(message)
                if len(got) < 10:
                    await theirs.send(b"%d" % len(got))
                elif len(got) == 10:
                    await theirs.send_eof()
        assert got == [b"%d" % number for number in range(10)]
    assert any(isinstance(found, tuple) for found in taken)


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
@pytest.mark.parametrize("before", [b"", b"good"])
@pytest.mark.parametrize("ending", ["limit", "end"])
async def test_what_is_wrong_comes_last(taken: list[Any], before: bytes, ending: str) -> None:
    """What came before it is good, and it is an error for ever."""
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        await waited(ours, theirs)
        with anyio.fail_after(10):
            os.write(theirs.extra(aipc.ChannelAttribute.descriptor), (FRAME(before) if before else b"") + b"\xff" * 11)
            if ending == "end":
                await theirs.aclose()
            if before:
                assert await ours.receive() == before
            for _ in range(2):
                with pytest.raises(MessageTooLarge, match="announced 4,294,967,295 bytes"):
                    await ours.receive()
    assert isinstance(taken[0], list if ending == "end" else bytes)


@pytest.mark.anyio
@pytest.mark.usefixtures("all_features")
async def test_descriptors_that_are_collected_are_not_read_in_c(taken: list[Any]) -> None:
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs:
        await waited(ours, theirs)
        reading, writing = os.pipe()
        for _ in range(3):
            await theirs.send(b"with", fds=[reading])
            with anyio.fail_after(10):
                message = await ours.receive_message()
            assert message.data == b"with"
            (fd,) = message.fds
            os.close(fd)
            await theirs.send(b"without")
            taken.clear()
            assert await ours.receive() == b"without"
            assert not taken
        os.close(reading)
        os.close(writing)


def test_nothing_leaks(watched: Watched) -> None:
    """Neither blocks of memory nor references, whether a call succeeds or fails."""
    data, items = FRAME(b"abc") * 5 + FRAME(b"x" * 90), [b"abc"] * 5 + [b"x" * 90]
    with memory() as (mapped, words):
        end = Consumer(0, Bell(), Unordered(), 1000)
        end.attach(mapped, words)

        def once() -> None:
            native.split(data, 4, 1000)
            native.split(data, 4, 50)
            native.join(items, 0, 4, 50, 1000)
            watched.theirs.send(FRAME(b"a"))
            assert watched.spin() == (b"a",)
            watched.theirs.send(b"a")
            assert watched.spin() == b"a"
            assert watched.spin() is None
            watched.epoll.modify(watched.ours, select.EPOLLOUT)
            assert watched.spin()
            watched.epoll.modify(watched.ours, select.EPOLLIN | select.EPOLLET)
            for wrong in (
                lambda: native.split(data, 5, 1),
                lambda: native.join((), 0, 4, 1, 1),
                lambda: native.spin(-1, 0, 1, 4, 1),
                lambda: native.send(None, b""),
                lambda: native.read_ahead([None], {}),
                lambda: native.reception(None),
            ):
                failed(wrong)
            words[4096 // 8] = words[4096 // 8 + 2] = 3
            end.position, words[0], words[48] = 0, 32, 2
            assert end.take() == b"\0\0\0"
            assert end.take_more([], 5, 1000) is None
            assert not end.watch(2)
            failed(end.take)
            Consumer(0, Bell(), Unordered(), 1000).attach(mapped, words)

        for _ in range(50):
            once()
        gc.collect()
        watched_objects = (data, *items, words, end, None, Consumer)
        references, before = [sys.getrefcount(one) for one in watched_objects], sys.getallocatedblocks()
        for _ in range(1000):
            once()
        gc.collect()
        assert sys.getallocatedblocks() - before < 500  # a leaked one a round would be 1,000
        for one, count in zip(watched_objects, references, strict=True):
            assert abs(sys.getrefcount(one) - count) < 500
        end.close()


def failed(call: Callable[[], object]) -> None:
    with pytest.raises((OSError, TypeError, ValueError)):
        call()
