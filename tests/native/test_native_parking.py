"""Tasks that the loop runs as soon as their messages were read: all of them, in their contexts, whatever one of them does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any

import anyio
import pytest

from aipc._sys.sysv import primitives
from aipc.testing.expect import settle, until

from . import native, needs_native
from .receptions import FRAME, connected, where_the_loop_reads

pytestmark = [needs_native, pytest.mark.anyio, where_the_loop_reads]


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


@asynccontextmanager
async def parked(count: int, **options: Any) -> AsyncIterator[tuple[list[Any], list[Any], list[asyncio.Task[bytes]]]]:
    """Channels, their peers, and a task that is parked on each."""
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(connected()) for _ in range(count)]
        channels, peers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(channel.receive(), **options) for channel in channels]
        await settle()
        yield channels, peers, tasks
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def events_come(channels: list[Any], peers: list[Any], frames: Sequence[bytes] = ()) -> None:
    """Send a message to each, and do as the loop does when the epoll set has events."""
    for peer, frame in zip(peers, frames or [FRAME(b"a")] * len(peers), strict=True):
        peer.send(frame)
    channels[0]._handle.readable._reactor._hand_out_and_run()


async def outside(function: Any, *arguments: Any, **named: Any) -> None:
    """Have the loop call it, while no task runs; what it raises comes out."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call() -> None:
        try:
            function(*arguments, **named)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(call)
    await done


async def test_all_run_at_once() -> None:
    async with parked(5) as (channels, peers, tasks):

        def come() -> None:
            events_come(channels, peers, [FRAME(b"%d" % number) for number in range(5)])
            assert [task.result() for task in tasks] == [b"0", b"1", b"2", b"3", b"4"]

        await outside(come)


async def test_in_debug_mode_the_loop_runs_them() -> None:
    loop = asyncio.get_running_loop()
    async with parked(2) as (channels, peers, tasks):
        loop.set_debug(True)

        def come() -> None:
            events_come(channels, peers)
            assert not any(task.done() for task in tasks)

        try:
            await outside(come)
            assert [await task for task in tasks] == [b"a", b"a"]
        finally:
            loop.set_debug(False)


async def test_a_task_that_is_woken_while_another_one_runs_waits_for_its_turn() -> None:
    """A spinning task looks for the events of all."""
    async with parked(1) as (channels, peers, tasks):
        peers[0].send(FRAME(b"a"))
        channels[0]._handle.readable._reactor.poll_now()
        assert not tasks[0].done()
        assert await tasks[0] == b"a"


async def test_each_runs_in_its_context() -> None:
    who: contextvars.ContextVar[int] = contextvars.ContextVar("who", default=-1)

    async def tell(channel: Any, number: int) -> tuple[bytes, int, asyncio.Task[Any] | None]:
        who.set(number)
        return await channel.receive(), who.get(), asyncio.current_task()

    async with parked(3) as (channels, peers, first):
        for task in first:
            task.cancel()
        tasks = [asyncio.get_running_loop().create_task(tell(channel, number)) for number, channel in enumerate(channels)]
        await settle()
        for peer in peers:
            peer.send(FRAME(b"a"))
        assert await asyncio.gather(*tasks) == [(b"a", number, task) for number, task in enumerate(tasks)]
        assert who.get() == -1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks take no context")
async def test_a_context_that_is_in_use_already() -> None:
    """The loop runs the task later."""
    context = contextvars.copy_context()
    async with parked(1, context=context) as (channels, peers, tasks):

        def come() -> None:
            context.run(events_come, channels, peers)
            assert not tasks[0].done()

        await outside(come)
        assert await tasks[0] == b"a"


async def test_one_cancels_the_next() -> None:
    """That was woken already: its message stays."""
    async with parked(2) as (channels, peers, tasks):

        async def cancelling() -> None:
            await channels[0].receive()
            tasks[1].cancel()

        tasks[0].cancel()
        await settle()
        first = asyncio.get_running_loop().create_task(cancelling())
        await settle()

        def come() -> None:
            events_come(channels, peers)
            assert first.done()

        await outside(come)
        await asyncio.wait([tasks[1]])
        assert tasks[1].cancelled()
        assert await channels[1].receive() == b"a"


async def test_an_interrupt_stops_no_other() -> None:
    """It goes on to the loop, and the tasks behind it run later."""
    async with parked(3) as (channels, peers, tasks):

        async def interrupted() -> None:
            await channels[0].receive()
            raise KeyboardInterrupt

        tasks[0].cancel()
        await settle()
        first = asyncio.get_running_loop().create_task(interrupted())
        await settle()
        spin = channels[0]._handle.readable._reactor.spin
        with pytest.raises(KeyboardInterrupt):
            await outside(events_come, channels, peers)
        assert first.done()
        assert isinstance(first.exception(), KeyboardInterrupt)
        assert not spin.active
        assert [await task for task in tasks[1:]] == [b"a", b"a"]


async def test_an_interrupt_while_it_reads_stops_none_that_was_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Interrupted

    async with parked(3) as (channels, peers, tasks):
        with monkeypatch.context() as patch:
            patch.setattr(type(channels[0]), "_keep", fail)
            with pytest.raises(Interrupted):
                await outside(events_come, channels, peers, [FRAME(b"a"), FRAME(b"1") + FRAME(b"2"), FRAME(b"c")])
        assert await tasks[0] == b"a"
        assert await tasks[2] == b"c"
        with pytest.raises(anyio.BrokenResourceError, match=r"Interrupted.* came while messages were read, which are lost"):
            await tasks[1]


async def test_a_task_of_pythons_own_class_runs_in_the_next_turn() -> None:
    """It might turn the loop itself, as nest_asyncio makes it, and wait for another one of them."""
    async with parked(2) as (channels, peers, tasks):
        tasks[0].cancel()
        await settle()
        loop: Any = asyncio.get_running_loop()
        python_task: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
        in_python = python_task(channels[0].receive(), loop=loop)
        await settle()

        def come() -> None:
            events_come(channels, peers)
            assert not in_python.done()
            assert tasks[1].result() == b"a"

        await outside(come)
        assert await in_python == b"a"


async def test_garbage_that_closes_the_channel_while_a_task_parks() -> None:
    """The task is told, as by Python's code, and does not wait for ever."""
    thresholds, closed = gc.get_threshold(), [False]

    class Closing:
        def __init__(self, channel: Any) -> None:
            self.channel, self.itself = channel, self

        def __del__(self) -> None:
            self.channel.close()
            closed[0] = True

    def step(coroutine: Any, objects: int) -> Any:
        """What it parks on; garbage is collected when there are so many objects more."""
        gc.set_threshold(objects)
        try:
            return coroutine.send(None)
        finally:
            gc.set_threshold(*thresholds)

    for objects in range(1, 40):
        async with connected() as (channel, _):
            closed[0] = False
            coroutine = channel.receive()
            gc.collect()
            Closing(channel)  # it is garbage at once
            try:
                parked = step(coroutine, objects)
            except anyio.ClosedResourceError:
                assert closed[0]
            else:
                assert not closed[0] or parked.done()  # from 3.12 on, garbage is collected after the step
            coroutine.close()
            gc.collect()


async def test_none_spins_while_others_wait_for_their_turn() -> None:
    async with parked(3) as (channels, peers, tasks):
        spin = channels[0]._handle.readable._reactor.spin
        active: list[bool] = []
        for task in tasks:
            task.cancel()
        await settle()

        async def look(channel: Any) -> None:
            await channel.receive()
            active.append(spin.active)

        looking = [asyncio.get_running_loop().create_task(look(channel)) for channel in channels]
        await settle()
        await outside(events_come, channels, peers)
        await asyncio.wait(looking)
        assert active == [True, True, False]
        assert not spin.active


async def test_what_a_task_waits_for_is_a_future() -> None:
    """By the protocol of asyncio's tasks, for one of them."""
    async with parked(2) as (channels, _, tasks):
        waits_for: Any = channels[0]._handle.readable._first
        assert asyncio.isfuture(waits_for)
        assert waits_for is tasks[0]._fut_waiter  # type: ignore[attr-defined]
        assert waits_for.get_loop() is asyncio.get_running_loop()
        assert not waits_for.done()
        assert not waits_for.cancelled()
        with pytest.raises(RuntimeError):
            waits_for.result()
        assert isinstance(waits_for, asyncio.Future)  # anyio asks for that
        for wrong in ((), (print, None)):
            with pytest.raises(TypeError):
                waits_for.add_done_callback(*wrong)
        with pytest.raises(TypeError):
            waits_for.add_done_callback(print, contexts=None)
        assert waits_for.cancel("why")
        assert not waits_for.cancel()
        assert waits_for.cancelled()
        with pytest.raises(RuntimeError):
            waits_for.set_result(None)
        for ask in (waits_for.result, waits_for.exception):
            with pytest.raises(asyncio.CancelledError, match="why"):
                ask()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        waits_for = channels[1]._handle.readable._first
        waits_for.set_result(None)
        assert waits_for.done()
        assert waits_for.result() is waits_for.exception() is None
        await settle()
        assert not tasks[1].done()  # there was nothing to receive: it waits again
    for wrong in ((), ([], None), ((), channels[0]._handle.readable._reactor)):
        with pytest.raises(TypeError):
            native.run(*wrong)
    with pytest.raises(TypeError):
        native.Parking()


async def test_a_scope_and_a_timeout_run_out_together() -> None:
    """The timeout's cancellation is the task's, and the scope adds none to it, because it sees that the wait is over."""

    async def receive(channel: Any) -> str:
        with anyio.move_on_after(0.02):
            try:
                async with asyncio.timeout(0.01):
                    await channel.receive()
            except TimeoutError:
                await anyio.sleep(0)  # the scope's own cancellation
        return "moved on"

    async with connected() as (channel, _):
        task = asyncio.get_running_loop().create_task(receive(channel))
        await settle()
        until_both_are_due = perf_counter() + 0.03
        while perf_counter() < until_both_are_due:
            pass
        assert await task == "moved on"


async def test_other_callbacks_are_called_in_their_order() -> None:
    """By the loop, and so is the task."""
    async with parked(1) as (channels, peers, tasks):
        called: list[tuple[int, bool, Any]] = []
        who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")
        context = contextvars.copy_context()
        context.run(who.set, "a callback of its own")
        waits_for: Any = channels[0]._handle.readable._first
        waits_for.add_done_callback(lambda _: called.append((1, tasks[0].done(), who.get())))
        waits_for.add_done_callback(lambda _: called.append((2, tasks[0].done(), who.get())), context=context)

        def come() -> None:
            events_come(channels, peers)
            assert not called
            assert not tasks[0].done()

        await outside(come)
        assert await tasks[0] == b"a"
        assert called == [(1, True, ""), (2, True, "a callback of its own")]


async def test_a_callback_that_comes_late_is_called() -> None:
    """As asyncio's futures do; in the context of whoever added it."""
    async with connected() as (channel, _):
        coroutine = channel.receive()
        waits_for: Any = coroutine.send(None)
        waits_for.set_result(None)
        called: list[object] = []
        waits_for.add_done_callback(called.append)
        assert not called
        await until(lambda: called == [waits_for])
        coroutine.close()


async def test_a_program_without_streams(anyio_backend: Any) -> None:
    """The functions in C know the classes only from the first stream on."""
    code = f"""
import anyio, aipc
async def main():
    queue = aipc.open_channel("posix-mq:/{primitives.PREFIX}without-streams?create=1&unlink=1")
    async with queue as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(channel.receive)
        await anyio.wait_all_tasks_blocked()
        await channel.send(b"a")
anyio.run(main, backend_options={anyio_backend[1]})
"""
    done = await anyio.run_process([sys.executable, "-c", code], check=False, env={**os.environ, "AIPC_DISABLE": "spin"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_cycle_is_collected() -> None:
    """The task, what it waits for, and the task again."""
    async with connected() as (channel, _):
        before = sum(isinstance(found, native.Parking) for found in gc.get_objects())
        coroutine = channel.receive()
        waits_for: Any = coroutine.send(None)
        waits_for.add_done_callback([coroutine, waits_for].append)
        coroutine.close()
        del coroutine, waits_for
        gc.collect()
        assert sum(isinstance(found, native.Parking) for found in gc.get_objects()) == before
