"""Opening and acquiring in one step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from aipc._opening.openers import open_lock
from aipc.abc import Lock

if TYPE_CHECKING:
    from aipc._options import LockOptions


@asynccontextmanager
async def lock(url: str, **options: Unpack[LockOptions]) -> AsyncIterator[Lock]:
    """A block that holds a lock, which is opened for it: `async with aipc.lock("flock:/run/app.lock"):`.

    Who acquires often opens it once, by `open_lock`. Options and errors as for `open_lock` and `Lock.acquire`. Cancelled while
    waiting: not held, and nothing is open.
    """
    async with open_lock(url, **options) as opened, opened:
        yield opened
