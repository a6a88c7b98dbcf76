"""Signals received from a signalfd."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import settle
from tests.subjects import BLOCKED_SIGNALS, CANCELLATIONS

from . import FLAG, ME, ONE, OTHER, detailed, expect_none, take

pytestmark = pytest.mark.anyio


async def test_sender_and_value() -> None:
    async with detailed(FLAG, ONE) as received:
        aipc.send_signal(ME, FLAG)
        assert await take(received) == (FLAG, ME, os.getuid(), None)
        for value in (0, 1, -1, (1 << 31) - 1, -(1 << 31)):
            aipc.send_signal(ME, ONE, value)
            assert await take(received) == (ONE, ME, os.getuid(), value)
        signal.raise_signal(FLAG)  # tgkill(2)
        assert await take(received) == (FLAG, ME, os.getuid(), None)


async def test_realtime_signals_queue() -> None:
    """Each of a kind, in order; of several kinds the lowest number first (signal(7))."""
    async with detailed(ONE, OTHER) as received:
        for value in range(100):
            aipc.send_signal(ME, OTHER, value)
            aipc.send_signal(ME, ONE, value)
        got = [await take(received) for _ in range(200)]
        assert [(info.signum, info.value) for info in got] == [
            (signum, value) for signum in (ONE, OTHER) for value in range(100)
        ]
        await expect_none(received)


async def test_a_standard_signal_is_a_flag() -> None:
    """Also for a receiver to whom another one handed it over."""
    async with detailed(FLAG) as received, detailed(FLAG) as beside:
        for _ in range(3):
            aipc.send_signal(ME, FLAG)
            aipc.send_signal(ME, FLAG)
            await take(received)
            await expect_none(received)
        await take(beside)
        await expect_none(beside)


async def test_mask_of_others_stays() -> None:
    """These signals were blocked before: they are so afterwards, and what nobody took is still there."""
    async with detailed(ONE):
        aipc.send_signal(ME, ONE, 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= BLOCKED_SIGNALS
    assert signal.sigtimedwait([ONE], 0).si_signo == ONE


@pytest.mark.parametrize("moment", [Moment.AWAIT, Moment.READINESS])
async def test_cancelled_plain_iteration_takes_nothing(moment: Moment) -> None:
    """Through the loop: a signal that comes while the iteration is cancelled is received once, now or later."""
    with anyio.fail_after(60):
        async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
            cancelled = 0
            while cancelled < CANCELLATIONS:
                sent = False

                def suspended(number: int, parked: bool) -> None:
                    nonlocal sent
                    if not sent:
                        sent = True
                        aipc.send_signal(ME, signal.SIGUSR1)

                outcome = await inject(received.__anext__(), 0, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    outcome = await anext(received)
                assert outcome.signum == signal.SIGUSR1
                await settle()
            await expect_none(received)


@pytest.mark.parametrize("moment", [Moment.AWAIT, Moment.READINESS])
async def test_cancelled_iteration_takes_nothing(moment: Moment) -> None:
    """Cancelled at every await: each signal is received once, now or later."""
    with anyio.fail_after(60):
        async with detailed(ONE) as received:
            cancelled = attempts = 0
            while cancelled < CANCELLATIONS:
                at, ready_at, value = attempts % 3, attempts // 3 % 3, attempts
                attempts += 1
                sent = False

                def suspended(number: int, parked: bool, ready_at: int = ready_at, value: int = value) -> None:
                    nonlocal sent
                    if (parked or number >= ready_at) and not sent:
                        sent = True
                        aipc.send_signal(ME, ONE, value)

                outcome = await inject(received.__anext__(), at, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    if not sent:
                        aipc.send_signal(ME, ONE, value)
                    outcome = await anext(received)
                assert outcome.value == value
            await expect_none(received)
