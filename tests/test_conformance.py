"""Every mechanism keeps every promise of its contract, on every loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from aipc.testing import CHANNEL_CHECKS, LOCK_CHECKS, ChannelSubject, LockSubject

from .subjects import CHANNELS, LOCKS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mechanism", CHANNELS)
@pytest.mark.parametrize("check", CHANNEL_CHECKS, ids=lambda check: check.__name__)
async def test_channel(check: Callable[[ChannelSubject], Awaitable[None]], mechanism: str, place: Path) -> None:
    with anyio.fail_after(60):
        await check(CHANNELS[mechanism](place))


@pytest.mark.parametrize("mechanism", LOCKS)
@pytest.mark.parametrize("check", LOCK_CHECKS, ids=lambda check: check.__name__)
async def test_lock(check: Callable[[LockSubject], Awaitable[None]], mechanism: str, place: Path) -> None:
    with anyio.fail_after(60):
        await check(LOCKS[mechanism](place))
