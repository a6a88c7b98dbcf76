"""Thousands of cancellations injected into each operation that waits, at every await: nothing held, counted or swallowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import aipc
from aipc.sync.condition import NOTIFIED
from aipc.testing import CANCELLED, Moment, inject

from ..subjects import CANCELLATIONS

pytestmark = pytest.mark.anyio

MOMENTS = (Moment.AWAIT, Moment.READINESS)
DEEPEST = 5  # awaits: spins, then the first parks


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """What is swallowed fails the test, where it would wait for ever."""
    with anyio.fail_after(120):
        yield


def plan(attempt: int) -> tuple[int, int, Moment]:
    """At which await to cancel, at which to make ready, and when."""
    return attempt % DEEPEST, attempt // DEEPEST % DEEPEST, MOMENTS[attempt % 2]


async def test_event(key: str) -> None:
    """A `set` at any moment of a `wait` that is cancelled at any await changes nothing else."""
    async with patience(), aipc.Event(key, unlink=True) as event, aipc.Event(key) as other:
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = plan(attempts)
            attempts += 1
            done = False

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                nonlocal done
                if (parked or number >= ready_at) and not done:
                    done = True
                    other.set()
                    other.clear()

            outcome = await inject(event.wait(), at, moment, suspended)
            cancelled += outcome is CANCELLED
            assert outcome is CANCELLED or done
            assert not event.is_set()


@pytest.mark.parametrize("side", ["reader", "writer"])
async def test_rwlock(side: str, key: str) -> None:
    """Released at any moment of an `acquire` that is cancelled at any await, it is held once, or not at all."""
    async with patience(), aipc.RWLock(key, unlink=True) as one, aipc.RWLock(key) as other:
        ours, theirs = getattr(one, side), other.writer
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = plan(attempts)
            attempts += 1
            released = False

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                nonlocal released
                if (parked or number >= ready_at) and not released:
                    released = True
                    theirs.release()

            theirs.acquire_nowait()
            outcome = await inject(ours.acquire(), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                if not released:
                    theirs.release()
                with pytest.raises(RuntimeError):
                    ours.release()
            else:
                ours.release()
            assert one._state.values()[1:5] == [0, 0, 0, 0]


async def test_acquire(key: str) -> None:
    async with patience(), aipc.Condition(key, unlink=True) as one, aipc.Condition(key) as other:
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = plan(attempts)
            attempts += 1

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                if (parked or number >= ready_at) and other.locked() and other._state.own[1]:
                    other.release()

            other.acquire_nowait()
            outcome = await inject(one.acquire(), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                if other._state.own[1]:
                    other.release()
                with pytest.raises(RuntimeError):
                    one.release()
            else:
                one.release()
            assert not one.locked()


def tickets(condition: aipc.Condition) -> int:
    """How many wait."""
    return sum(1 for value in condition._state.values()[3:] if value not in (0, NOTIFIED))


async def test_condition(key: str) -> None:
    """A notified task that is cancelled holds the lock again, and the next one has the notification."""
    async with patience(), aipc.Condition(key, unlink=True, waiters=4) as one, aipc.Condition(key) as other:
        woken = 0

        async def heir() -> None:
            nonlocal woken
            async with other:
                while True:
                    await other.wait()
                    woken += 1

        async with anyio.create_task_group() as tasks:
            cancelled = attempts = inherited = 0
            while cancelled < CANCELLATIONS:
                at, ready_at, moment = plan(attempts)
                attempts += 1
                notified = False
                if not woken and not attempts - 1:
                    tasks.start_soon(heir)
                while not tickets(one):
                    await anyio.sleep(0)
                before = woken

                def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                    nonlocal notified
                    if (parked or number >= ready_at) and not notified and not other.locked():
                        notified = True
                        other.acquire_nowait()
                        other.notify(2)
                        other.release()

                await one.acquire()
                outcome = await inject(one.wait(), at, moment, suspended)
                cancelled += outcome is CANCELLED
                one.notify(0)  # it is held: else RuntimeError
                one.release()
                if notified:
                    while woken == before:
                        await anyio.sleep(0)
                    inherited += outcome is CANCELLED
                while tickets(one) != 1:
                    await anyio.sleep(0)
            assert inherited
            tasks.cancel_scope.cancel()
        assert {*one._state.values()[3:]} <= {0, NOTIFIED}  # a notification that was left when nobody waited any more


async def test_passed_on(key: str) -> None:
    """One notification, the older task is cancelled: the younger one has it. Cancelled before: not counted."""
    async with patience(), aipc.Condition(key, unlink=True, waiters=4) as one, aipc.Condition(key) as other:
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = plan(attempts)
            attempts += 1
            notified = False
            woken = 0

            async def younger() -> None:
                nonlocal woken
                async with other:
                    await other.wait()
                    woken += 1

            async with anyio.create_task_group() as tasks:

                def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                    nonlocal notified
                    waiting = sum(1 for value in other._state.values()[3:] if value)
                    if number == 0:
                        tasks.start_soon(younger)
                    if waiting == 2 and not notified and not other.locked():
                        notified = True
                        other.acquire_nowait()
                        other.notify()
                        other.release()

                await one.acquire()
                outcome = await inject(one.wait(), at, moment, suspended)
                cancelled += outcome is CANCELLED
                one.release()
                while not woken:
                    if not (notified and outcome is CANCELLED) and one._state.values()[3:].count(0) < 4:
                        async with one:  # nobody was notified in its place
                            one.notify()
                    await anyio.sleep(0)
            assert not any(one._state.values()[3:])


async def test_barrier(key: str) -> None:
    """The other party comes at any moment of a `wait` that is cancelled at any await: both pass, or nobody is counted."""
    async with patience(), aipc.Barrier(key, 2, unlink=True) as one, aipc.Barrier(key) as other:
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = plan(attempts)
            attempts += 1
            passed: list[int] = []

            async def come() -> None:
                passed.append(await other.wait())

            async with anyio.create_task_group() as tasks:
                came = False

                def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                    nonlocal came
                    if (parked or number >= ready_at) and not came:
                        came = True
                        tasks.start_soon(come)

                outcome = await inject(one.wait(), at, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    while came and not passed and not other.n_waiting:
                        await anyio.sleep(0)
                    tasks.cancel_scope.cancel()
            assert outcome is CANCELLED or [outcome, *passed] in ([0, 1], [1, 0])
            assert one._state.values()[2] == 0
            assert not one.broken
