"""What both ways of receiving signals promise."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import suppress
from functools import partial

import anyio
import pytest

import aipc
from aipc.testing.expect import in_child, raises, settle

from . import FLAG, ME, ONE, OTHER, detailed, expect_none, take

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("details", [False, True])
async def test_each_receiver_gets_it(details: bool, caught: list[int]) -> None:
    """Nested and concurrent ones; one that leaves unhooks no other, whoever came first."""
    signum, other = (FLAG, OTHER) if details else (signal.SIGUSR1, signal.SIGHUP)
    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as first, opened(signum, other) as second:
        async with opened(signum) as third:
            aipc.send_signal(ME, signum)
            assert {(await take(each)).signum for each in (third, first, second)} == {signum}
            await first.aclose()
            aipc.send_signal(ME, signum)
            assert {(await take(each)).signum for each in (second, third)} == {signum}
        aipc.send_signal(ME, other)
        assert (await take(second)).signum == other
        aipc.send_signal(ME, signum)
        assert (await take(second)).signum == signum
        await expect_none(second)
    assert caught == []


@pytest.mark.parametrize("details", [False, True])
async def test_receivers_that_wait_all_get_it(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as first, opened(signum) as second, anyio.create_task_group() as tasks:
        tasks.start_soon(take, first)
        tasks.start_soon(take, second)
        await settle()
        aipc.send_signal(ME, signum)


async def test_receiver_that_waits_gets_what_another_took() -> None:
    """No event of the descriptor tells it: the signal is gone before the loop looks."""
    async with detailed(ONE) as quick, detailed(ONE) as waiting, anyio.create_task_group() as tasks:
        tasks.start_soon(take, waiting)
        await settle()
        aipc.send_signal(ME, ONE, 1)
        await take(quick)


@pytest.mark.parametrize("details", [False, True])
async def test_each_signal_goes_to_one_task(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    got: list[aipc.SignalInfo] = []

    async def receive() -> None:
        got.append(await take(received))

    async with aipc.open_signal_receiver(signum, details=details) as received, anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        tasks.start_soon(receive)
        for expected in (1, 2):
            await settle()
            aipc.send_signal(ME, signum)
            with anyio.fail_after(10):
                while len(got) < expected:
                    await settle()
            assert len(got) == expected


@pytest.mark.parametrize("details", [False, True])
async def test_closing(details: bool) -> None:
    """Once, also when cancelled; who waits, and who comes later, learns of it; a receiver beside it goes on."""
    signum = FLAG if details else signal.SIGUSR1

    async def expect_closed() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await take(received)

    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as other, opened(signum) as received:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expect_closed)
            tasks.start_soon(expect_closed)
            await settle()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await received.aclose()
        await received.aclose()
        await expect_closed()
        aipc.send_signal(ME, signum)
        assert (await take(other)).signum == signum
    with pytest.raises(anyio.ClosedResourceError):
        await take(other)


@pytest.mark.parametrize("details", [False, True])
async def test_refuses_after_fork(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    async with aipc.open_signal_receiver(signum, details=details) as received:

        def use() -> None:
            with raises(aipc.ForkedError):
                received.__anext__().send(None)
            with suppress(StopIteration):
                received.aclose().send(None)

        in_child(use)
        aipc.send_signal(ME, signum)
        assert (await take(received)).signum == signum


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize(
    ("signals", "error"),
    [
        ((), ValueError),
        ((0,), ValueError),
        ((-1,), ValueError),
        ((32,), ValueError),
        ((65,), ValueError),
        (("SIGHUP",), TypeError),
        ((signal.SIGKILL,), aipc.UnsupportedOperation),
        ((signal.SIGUSR1, signal.SIGSTOP), aipc.UnsupportedOperation),
    ],
)
async def test_what_cannot_be_received(signals: tuple[int, ...], error: type[Exception], details: bool) -> None:
    with pytest.raises(error):
        async with aipc.open_signal_receiver(*signals, details=details):
            pass


@pytest.mark.parametrize("details", [False, True])
async def test_wrong_thread(details: bool) -> None:
    """The main thread's signals: with `details` it is the main thread's mask that is in the way."""
    errors: list[BaseException] = []

    async def receive() -> None:
        async with aipc.open_signal_receiver(signal.SIGUSR1, details=details):
            pass

    def elsewhere() -> None:
        try:
            asyncio.run(receive())
        except aipc.UnsupportedOperation as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    (error,) = errors
    assert ("MainThread" if details else "main thread") in str(error)


@pytest.mark.parametrize("details", [False, True])
async def test_knows_whether_others_receive_the_same(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as first, opened(OTHER if details else signal.SIGHUP):
        assert not first.shared
        async with opened(signum) as second:
            assert first.shared
            assert second.shared
        assert not first.shared
