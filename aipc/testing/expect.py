"""The helpers in which checks are written; no test runner needed."""

from __future__ import annotations

import os
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import TypeVar

import anyio
import anyio.lowlevel

Result = TypeVar("Result")

PATIENCE = 30.0
"""Seconds after which an expected event counts as missing."""
_LONGER_THAN_A_SPIN = 1e-3


class BrokenPromise(AssertionError):
    """A check found that a promise does not hold."""


def check(holds: bool, otherwise: str) -> None:
    """Raise BrokenPromise unless `holds` is true."""
    if not holds:
        raise BrokenPromise(otherwise)


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[None]:
    """Raise BrokenPromise unless the block raises `kind`."""
    try:
        yield
    except kind:
        return
    raise BrokenPromise(f"no {kind.__name__} was raised")


async def within(operation: Callable[[], Awaitable[Result]]) -> Result:
    """Await `operation()`, but not for ever."""
    with anyio.fail_after(PATIENCE):
        return await operation()


async def settle() -> None:
    """Let the other tasks run until they wait: a hundred turns of the loop until they begin to, longer than a spin, a hundred more.

    The time counts once they have begun: their first steps may be late.
    """
    await _turns(100)
    end = perf_counter() + _LONGER_THAN_A_SPIN
    while perf_counter() < end:
        await anyio.lowlevel.checkpoint()
    await _turns(100)


async def _turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks and processes run until `condition()` is true, but not for ever."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await anyio.sleep(1e-3)


def at_once(operation: Callable[[], Awaitable[object]]) -> None:
    """Run an awaitable outside of any task; BrokenPromise if it waits."""
    steps = operation().__await__()
    with suppress(StopIteration):
        next(steps)
        raise BrokenPromise("it waits")


def in_child(use: Callable[[], None]) -> None:
    """Run `use` in a forked child; BrokenPromise if it raised there."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            use()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must never continue in the parent's code
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    check(status == 0, f"a forked child failed with wait status {status}; its traceback is on stderr")
