"""A task that must wait lets the others of its loop run, and looks again: in C, and nothing is lost whatever happens in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc._io.loop.reactor import Reactor
from aipc._io.loop.spin import Spin
from aipc.exceptions import MessageTooLarge
from aipc.testing.expect import settle
from aipc.transports.unix.stream_channel import UnixChannel

from . import needs_native
from .receptions import FRAME, connected, is_parked, where_the_loop_reads

pytestmark = [needs_native, pytest.mark.anyio, where_the_loop_reads]


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


@asynccontextmanager
async def spinning() -> AsyncIterator[tuple[UnixChannel, socket.socket]]:
    """A channel on which to spin pays, which knows that nothing is there, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        async with await aipc.open_channel(f"fd:{ours.detach()}") as opened:
            channel = cast("UnixChannel", opened)
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(channel.receive)
                    await settle()
                    theirs.send(FRAME(b"the first one is Python's"))
                readable = channel._handle.readable
                theirs.send(FRAME(b"of which C knows that it is all"))
                await readable.attempt(channel._take)
                assert (readable.exhausted, readable.empty) == (True, True)
                reactor_of(channel).spin, reactor_of(channel).crowd.until = Spin(), 0.0
                yield channel, theirs
            assert not reactor_of(channel).spin.active


def reactor_of(channel: UnixChannel) -> Reactor:
    return cast(Reactor, channel._handle.readable._reactor)


def in_the_turn(function: Callable[..., Any], *arguments: Any) -> None:
    """Have the loop call it while the next task lets others run."""
    asyncio.get_running_loop().call_soon(function, *arguments)


@dataclass
class Further:
    """Go on with what has taken a step by hand."""

    coroutine: Coroutine[Any, Any, bytes]

    def __await__(self) -> Generator[Any, Any, bytes]:
        return self.coroutine.__await__()


async def on(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    return await Further(coroutine)


def only_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it went on in Python")

    monkeypatch.setattr(UnixChannel, "_receive_in_python", fail)


@pytest.mark.parametrize("messages", [[b"a"], [b"a", b"b", b"c"]])
async def test_what_comes_in_the_turn_is_received(messages: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    async with spinning() as (channel, peer):
        only_c(monkeypatch)
        in_the_turn(peer.send, b"".join(map(FRAME, messages)))
        assert [await channel.receive() for _ in messages] == messages
        assert channel._handle.readable._fired is None


async def test_a_long_message_comes_in_the_turn() -> None:
    async with spinning() as (channel, peer):
        in_the_turn(peer.send, FRAME(b"x" * 20_000))
        assert await channel.receive() == b"x" * 20_000


async def test_one_turn_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spinning() as (channel, peer):
        only_c(monkeypatch)
        for number in range(1_000):
            in_the_turn(peer.send, FRAME(b"%d" % number))
            assert await channel.receive() == b"%d" % number


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_message_for_another_task_comes_too(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look may tell of both, and whoever sees it must tell the other."""
    async with spinning() as (channel, peer), connected() as (other, other_peer):
        for _ in range(3):
            task = asyncio.get_running_loop().create_task(other.receive())
            await settle()
            reactor_of(channel).spin = Spin()
            assert is_parked(other)
            for send in (other_peer.send, peer.send)[:: 1 if when == "before" else -1]:
                in_the_turn(send, FRAME(b"a"))
            with monkeypatch.context() as patch:
                only_c(patch)
                assert await channel.receive() == b"a"
            assert await task == b"a"


async def test_only_another_task_gets_a_message() -> None:
    async with spinning() as (channel, peer), connected() as (other, other_peer):
        task = asyncio.get_running_loop().create_task(other.receive())
        await settle()
        reactor_of(channel).spin = Spin()
        task.add_done_callback(lambda _: peer.send(FRAME(b"at last")))
        in_the_turn(other_peer.send, FRAME(b"a"))
        assert await channel.receive() == b"at last"
        assert await task == b"a"


async def test_nothing_comes_in_the_turn() -> None:
    async with spinning() as (channel, peer):
        asyncio.get_running_loop().call_later(0.01, peer.send, FRAME(b"late"))
        in_the_turn(int)
        assert await channel.receive() == b"late"


@pytest.mark.parametrize("how", ["cancel", "close", "throw"])
async def test_it_ends_in_the_turn(how: str) -> None:
    async with spinning() as (channel, peer):
        in_the_turn(peer.send, FRAME(b"for the next one"))
        coroutine = channel.receive()
        if how == "cancel":
            task = asyncio.get_running_loop().create_task(coroutine)
            in_the_turn(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert coroutine.send(None) is None
            assert reactor_of(channel).spin.active
            if how == "close":
                coroutine.close()
            else:
                with pytest.raises(Interrupted):
                    coroutine.throw(Interrupted)
        assert not reactor_of(channel).spin.active
        assert channel._handle.readable._fired is None
        assert await channel.receive() == b"for the next one"


@pytest.mark.parametrize("sent", [False, True])
async def test_the_channel_is_closed_in_the_turn(*, sent: bool) -> None:
    async with spinning() as (channel, peer):
        if sent:
            peer.send(FRAME(b"the loop sees it before"))
        in_the_turn(channel.close)
        with pytest.raises(anyio.ClosedResourceError):
            await channel.receive()


async def test_the_peer_leaves_in_the_turn() -> None:
    async with spinning() as (channel, peer):
        in_the_turn(peer.send, FRAME(b"the last one"))
        in_the_turn(peer.close)
        assert await channel.receive() == b"the last one"
        with pytest.raises(anyio.EndOfStream):
            await channel.receive()


@pytest.mark.parametrize("also", [False, True])
async def test_an_error_behind_a_message(*, also: bool) -> None:
    """The next `receive` tells it, also if it would park; `also`: another task gets a message."""
    async with spinning() as (channel, peer), connected() as (other, other_peer):
        task = asyncio.get_running_loop().create_task(other.receive())
        await settle()
        reactor_of(channel).spin = Spin()
        if also:
            in_the_turn(other_peer.send, FRAME(b"b"))
        in_the_turn(peer.send, FRAME(b"a") + b"\xff" * 4)
        assert await channel.receive() == b"a"
        reactor_of(channel).spin._skip = 2
        with pytest.raises(MessageTooLarge):
            await channel.receive()
        other_peer.send(FRAME(b"b"))
        assert await task == b"b"


async def test_another_task_parks_on_the_channel_in_the_turn() -> None:
    async with spinning() as (channel, peer):
        loop = asyncio.get_running_loop()
        first = loop.create_task(channel.receive())
        second = loop.create_task(channel.receive())
        in_the_turn(peer.send, FRAME(b"1"))
        loop.call_later(0.01, peer.send, FRAME(b"2"))
        assert {await first, await second} == {b"1", b"2"}


async def test_a_message_comes_while_another_task_has_parked() -> None:
    """The look takes the edge, which comes once: who goes on in Python must know, also if it would park."""
    async with spinning() as (channel, peer):
        coroutine = channel.receive()
        in_the_turn(int)
        assert coroutine.send(None) is None
        other = asyncio.get_running_loop().create_task(channel.receive())
        await anyio.lowlevel.checkpoint()
        reactor_of(channel).spin._skip = 2
        peer.send(FRAME(b"1"))
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == b"1"
        peer.send(FRAME(b"2"))
        assert await other == b"2"


async def test_another_task_leaves_messages_in_the_turn() -> None:
    """They come first: what the look reads must not take their place."""
    async with spinning() as (channel, peer):

        def other() -> None:
            peer.send(FRAME(b"1") + FRAME(b"2"))
            assert channel.receive_nowait() == b"1"
            peer.send(FRAME(b"3"))

        in_the_turn(other)
        assert [await channel.receive() for _ in range(2)] == [b"2", b"3"]


async def test_it_is_closed_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what runs when an event is dispatched. The coroutine itself refuses this; who has its innermost part can do it."""
    hand_out = Reactor.hand_out

    def closing(reactor: Reactor, *arguments: Any) -> None:
        hand_out(reactor, *arguments)
        reception.close()

    async with spinning() as (channel, peer):
        coroutine = channel.receive()
        in_the_turn(int)
        assert coroutine.send(None) is None
        reception: Any = coroutine.cr_await
        peer.send(FRAME(b"for the next one"))
        peer.shutdown(socket.SHUT_WR)  # not an event that C understands
        with monkeypatch.context() as patch:
            patch.setattr(Reactor, "hand_out", closing)
            with pytest.raises(RuntimeError, match="it was closed while it ran"):
                coroutine.send(None)
        assert await channel.receive() == b"for the next one"


async def test_it_is_closed_by_a_task_that_the_loop_runs_with_others() -> None:
    """They do not spin while others wait for their turn. But afterwards one may: `spinning` looks."""
    async with spinning() as (channel, _), connected() as (closers, closers_peer), connected() as (other, other_peer):

        async def close() -> None:
            await closers.receive()
            coroutine.close()

        loop = asyncio.get_running_loop()
        tasks = loop.create_task(close()), loop.create_task(other.receive())
        await settle()
        reactor_of(channel).spin = Spin()
        coroutine = channel.receive()
        in_the_turn(int)
        assert coroutine.send(None) is None
        closers_peer.send(FRAME(b"a"))
        other_peer.send(FRAME(b"b"))
        await asyncio.gather(*tasks)


async def test_another_task_is_in_the_middle_of_a_message() -> None:
    async with spinning() as (channel, peer):
        coroutine = channel.receive()
        in_the_turn(int)
        assert coroutine.send(None) is None
        message = b"x" * 500 + FRAME(b"of which the end looks like a message")
        frame = FRAME(message)
        peer.send(frame[:504])
        other = asyncio.get_running_loop().create_task(channel.receive())
        await settle()
        assert channel._rest
        peer.send(frame[504:])
        first = asyncio.get_running_loop().create_task(on(coroutine))
        await settle()
        peer.send(FRAME(b"2"))
        assert {await first, await other} == {message, b"2"}


@pytest.mark.parametrize("error", [ValueError("not kept"), Interrupted("while it reads")])
async def test_what_fails_while_it_reads_is_told(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are lost: this `receive` says so, and the next one, also if it does not spin."""

    def fail(*_: object) -> None:
        raise error

    async with spinning() as (channel, peer):
        in_the_turn(peer.send, FRAME(b"1") + FRAME(b"2"))
        with monkeypatch.context() as patch:
            patch.setattr(UnixChannel, "_keep", fail)
            coroutine = channel.receive()
            assert coroutine.send(None) is None
            reactor_of(channel).spin._skip = 2
            await anyio.lowlevel.checkpoint()
            with pytest.raises(type(error)):
                coroutine.send(None)
        with pytest.raises(ValueError if isinstance(error, ValueError) else anyio.BrokenResourceError):
            await channel.receive()


async def test_an_interrupt_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_out = Reactor.hand_out

    def interrupted(reactor: Reactor, *arguments: Any) -> None:
        hand_out(reactor, *arguments)
        raise Interrupted

    async with spinning() as (channel, peer):
        coroutine = channel.receive()
        in_the_turn(int)
        assert coroutine.send(None) is None
        peer.send(FRAME(b"for the next one"))
        peer.close()  # not an event that C understands
        with monkeypatch.context() as patch:
            patch.setattr(Reactor, "hand_out", interrupted)
            with pytest.raises(Interrupted):
                coroutine.send(None)
        assert await channel.receive() == b"for the next one"


async def test_a_quick_peer_of_a_task_that_others_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`receive` comes back to the turn in C from the spin in C, which is for a task that is alone."""
    async with spinning() as (channel, peer):
        channel._handle.readable.quick = 32
        for _ in range(4):
            in_the_turn(peer.send, FRAME(b"a"))
            assert await channel.receive() == b"a"
            in_the_turn(int)
        only_c(monkeypatch)
        in_the_turn(peer.send, FRAME(b"b"))
        assert await channel.receive() == b"b"
