"""Signals through the loop's own handling: `loop.add_signal_handler` on asyncio and uvloop, trio's entry queue on trio.

trio's own receiver is made of the same two parts, but has no room for a second one of the same signal, and gives what it has
not handed on back to the earlier handler when it closes: for SIGHUP that would be the end of the process.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from aipc._sys.signals import mask as signal_mask
from aipc._sys.signals.mask import Disposition, blocked_signals
from aipc._sys.signals.numbers import name_of
from aipc.exceptions import UnsupportedOperation

from . import backend

Fired = Callable[[int], None]

_LOOKS = 10
"""How often to look whether a thread has ended, a millisecond apart."""


async def check_other_threads(signals: frozenset[int]) -> None:
    """UnsupportedOperation if another thread of the process does not block them, and does not end within some milliseconds.

    Nothing is awaited after the last look. Cancelled: nothing happened.
    """
    for _ in range(_LOOKS):
        if not signal_mask.only_ending_threads(signals):
            break
        await anyio.sleep(1e-3)
    signal_mask.check_other_threads(signals)


def watch(signum: int, fired: Fired) -> Callable[[], None]:
    """Call `fired(signum)` in the running loop after each signal; gives a function that ends this and restores what was before.

    In the main thread only. UnsupportedOperation if the loop keeps that signal to itself.
    """
    earlier = Disposition(signum)
    if backend.in_trio():
        _handle_in_trio(signum, fired)
        return earlier.restore
    loop = asyncio.get_running_loop()
    if _has_handler(loop, signum, earlier):
        # uvloop tells nobody what it calls, so it could not be put back: leave it, and stand in front of it.
        signal.signal(signum, lambda number, _: loop.call_soon_threadsafe(fired, number) and None)
        signal.siginterrupt(signum, False)
        return earlier.restore
    try:
        loop.add_signal_handler(signum, fired, signum)
    except RuntimeError as error:
        raise UnsupportedOperation(
            f"{name_of(signum)}: this loop does not give it away ({error}; MagicStack/uvloop#409): details=True receives it"
        ) from None
    return partial(_stop, loop, signum, earlier)


def _has_handler(loop: asyncio.AbstractEventLoop, signum: int, earlier: Disposition) -> bool:
    """Whether `loop.add_signal_handler` was called for it before."""
    handlers: Any = getattr(loop, "_signal_handlers", ())  # asyncio's; uvloop's handler is the loop's own method
    return signum in handlers or getattr(earlier.handler, "__self__", None) is loop


def _stop(loop: asyncio.AbstractEventLoop, signum: int, earlier: Disposition) -> None:
    with blocked_signals(signum):  # the loop leaves the default action behind, and for most signals that is the end
        if not loop.is_closed():
            loop.remove_signal_handler(signum)
        earlier.restore()


def _handle_in_trio(signum: int, fired: Fired) -> None:
    import trio

    token = trio.lowlevel.current_trio_token()

    def handle(number: int, _: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(fired, number, idempotent=True)

    signal.signal(signum, handle)
