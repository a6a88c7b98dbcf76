"""Ending children: gently, then less so; whatever happens, none is left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import anyio

from .process import Child

GRACE = 5.0
"""Seconds that a child has to end by itself, and again after SIGTERM."""
_PAUSE = 10e-3  # seconds between looks at a process group
_STEPS = (None, signal.SIGTERM, signal.SIGKILL)


def signal_all(children: Sequence[Child], signum: int, *, tree: bool = False) -> None:
    """Send a signal to each: to the last of a pipeline first, so that none takes the death of the one before for the end of input."""
    for child in reversed(children):
        child.send_signal(signum, tree=tree)


async def terminate(children: Sequence[Child], let_go: Callable[[], None], grace: float, *, gently: bool) -> None:
    """End children, and take their statuses, whatever it takes: none is left when this returns or raises.

    `let_go` closes our ends of their pipes. `gently`: that first, and `grace` seconds to end by themselves. Else, and then:
    SIGTERM, `grace` seconds, SIGKILL; to the whole process group of a child that leads one. Cancelled while they end by
    themselves: SIGTERM at once; later cancellations wait (a second `Task.cancel` of asyncio, which nothing can hold back, means
    SIGKILL at once). In a forked child, whose children they are not: nothing.
    """
    if any(child.forked for child in children):
        return
    step = 0 if gently else 1
    cancelled: BaseException | None = None
    while True:
        signum = _STEPS[step]
        if signum is not None:
            _force(children, signum)
        let_go()
        patience = grace if step < 2 else float("inf")
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + patience, shield=step > 0):
                await _ended(children, alone=step == 2)
        except anyio.get_cancelled_exc_class() as error:
            cancelled = error
        if all(child.returncode is not None and (step == 2 or not child.leaves_others) for child in children):
            break
        step = min(step + 1, 2)
    for child in children:
        child.let_go()
    if cancelled is not None:
        raise cancelled


def _force(children: Sequence[Child], signum: int) -> None:
    if signum == signal.SIGKILL:
        for child in children:
            child.forced |= child.returncode is None or child.leaves_others
    signal_all(children, signum, tree=True)


async def _ended(children: Sequence[Child], *, alone: bool) -> None:
    """Wait for them, and unless `alone` for their groups."""
    for child in children:
        await child.wait()
    while not alone and any(child.leaves_others for child in children):  # noqa: ASYNC110 - nothing tells
        await anyio.sleep(_PAUSE)
