"""Requests that are cancelled at every await: no later one ever has their answers, and no worker is lost."""

from __future__ import annotations

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import until

from ...subjects import CANCELLATIONS
from .. import functions
from .ends import KINDS

pytestmark = pytest.mark.anyio

WORKERS = 2
LONG = 9 << 20  # several times what the ring and the sockets hold


@pytest.mark.costly
@pytest.mark.parametrize(("kind", "size"), [*((kind, 1) for kind in KINDS), ("stream", LONG), ("shm", LONG)])
async def test_cancelled_requests(kind: str, size: int) -> None:
    cancelled = attempts = at = 0
    filler = bytes(size)
    async with aipc.spawn_pool(WORKERS, functions.echo, channel=kind) as pool:
        while cancelled < (CANCELLATIONS if size == 1 else CANCELLATIONS // 30):
            text = b"%d." % attempts + filler
            moment = (Moment.AWAIT, Moment.READINESS)[attempts % 2]
            with anyio.fail_after(60):
                outcome = await inject(pool.request(text), at, moment)
                assert outcome in (CANCELLED, text)
                if attempts % 3 == 0:
                    assert await pool.request(b"between %d" % attempts) == b"between %d" % attempts
            attempts += 1
            cancelled += outcome is CANCELLED
            at = at + attempts % 2 if outcome is CANCELLED else 0  # one deeper, until it ends before that
        await until(lambda: not any(slot.busy for slot in pool._slots))
        assert pool.restarts == 0


@pytest.mark.costly
async def test_cancelled_calls() -> None:
    """Each result is that of its own call, whether or not earlier calls were given up."""
    cancelled = attempts = at = 0
    async with aipc.spawn_pool(WORKERS) as pool:
        while cancelled < CANCELLATIONS:
            with anyio.fail_after(60):
                outcome = await inject(pool.run(abs, -attempts), at, (Moment.AWAIT, Moment.READINESS)[attempts % 2])
                assert outcome in (CANCELLED, attempts)
                if attempts % 3 == 0:
                    assert await pool.run(abs, -attempts - 1) == attempts + 1
            attempts += 1
            cancelled += outcome is CANCELLED
            at = at + attempts % 2 if outcome is CANCELLED else 0
        await until(lambda: not pool.statistics().busy)
        assert pool.restarts == pool.statistics().waiting == 0
