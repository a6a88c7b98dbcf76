"""`aipc.spawn_pool`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, TypeVarTuple, Unpack

import anyio

from aipc._child.termination import GRACE
from aipc.abc import Channel
from aipc.exceptions import AddressError

from ..backoff import Backoff
from ..spawn import WorkerOptions, opening
from .pool import Pool
from .slot import Plan, Welcome
from .spares import Spares

Args = TypeVarTuple("Args")
POLICIES = ("always", "on-failure", "never")


async def idle(channel: Channel) -> None:
    """Only run the calls of `Pool.run`."""
    async for _ in channel:
        pass


@asynccontextmanager
async def spawn_pool(
    n: int,
    function: Callable[[Channel, *Args], Awaitable[object]] | None = None,
    *args: *Args,
    channel: Literal["stream", "seqpacket", "shm"] = "stream",
    restart: Literal["always", "on-failure", "never"] = "always",
    backoff: float = 0.1,
    backoff_limit: float = 30.0,
    healthy_after: float = 10.0,
    welcome: Welcome | None = None,
    spares: int = 0,
    max_waiting: int | None = None,
    **options: Unpack[WorkerOptions],
) -> AsyncIterator[Pool]:
    """Start `n` workers that run `function(channel, *args)`: `async with aipc.spawn_pool(4, work) as pool`.

    Failures are logged (logger `aipc`). Leaving the block ends all workers at the same time, as leaving the block of `spawn` ends
    one; how they ended is not raised.

    Args:
        n: The number of workers, 1 or more.
        function: As for `spawn`. Without one, the workers only run what `Pool.run` sends them.
        *args: As for `spawn`.
        channel: As for `spawn`.
        restart: When a worker that ended is replaced: "always"; "on-failure", if its function raised or it was killed; "never".
        backoff: Seconds before the second replacement. The first is immediate; later pauses double.
        backoff_limit: The longest pause, in seconds.
        healthy_after: A worker that lived for so many seconds resets the pause.
        welcome: `await welcome(worker)` runs before a worker gets requests, for example to send it a listening socket.
        spares: The number of workers that are started beside the `n`, import the function, and wait to take the place of one that
            ends: it is replaced in about a millisecond, and not in the 100 that an interpreter needs. Each costs its memory.
        max_waiting: The number of requests that may wait for a worker; one more is PoolBusy. By default there is no limit.
        **options: `loop`, `grace`, `cwd` and `env`, as for `spawn`.

    Raises:
        TypeError: Before anything is started: `function` or `args` cannot be pickled.
        AddressError: An unknown kind of channel, loop or `restart`, `n` below 1, or `spares` or `max_waiting` below 0.

    Cancelled: all workers are ended and reaped.
    """
    if restart not in POLICIES:
        raise AddressError(f"spawn_pool(restart={restart!r}): must be one of {', '.join(POLICIES)}")
    if n < 1:
        raise AddressError(f"spawn_pool({n}): must be 1 worker or more")
    if spares < 0 or (max_waiting is not None and max_waiting < 0):
        raise AddressError(f"spawn_pool(spares={spares}, max_waiting={max_waiting}): must be 0 or more")
    start = partial(opening, function or idle, args, numbered=True, channel=channel, **options)
    start()  # raises here if an argument is wrong
    grace = options.get("grace", GRACE)
    kept = Spares(start, spares, grace)
    plan = Plan(kept, welcome, partial(Backoff, backoff, backoff_limit, healthy_after), restart, grace)
    failed: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        pool = Pool(tasks, plan, max_waiting)
        pool.keep(n)
        try:
            yield pool
            await pool.close()
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - raised below, outside of an exception group
            failed = error
        finally:
            pool.leave()
            await kept.aclose()
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
