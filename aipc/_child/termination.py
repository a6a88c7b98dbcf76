"""Ending children: first gently, then by signals. No child is left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

import anyio

from .process import Child

GRACE = 5.0
"""Seconds that a child has to end by itself, and again after SIGTERM."""
_PAUSE = 10e-3  # seconds between checks of a process group
_STEPS = (None, signal.SIGTERM, signal.SIGKILL)


def signal_all(children: Sequence[Child], signum: int, *, tree: bool = False) -> None:
    """Send a signal to each child, to a pipeline's last one first, so that no child takes another's death for the end of its input."""
    for child in reversed(children):
        child.send_signal(signum, tree=tree)


async def terminate(children: Sequence[Child], let_go: Callable[[], None], grace: float, *, gently: bool) -> None:
    """End children and take their statuses. When this returns or raises, none is left.

    `let_go` closes our ends of their pipes. `gently`: call it first, and give the children `grace` seconds to end by themselves.
    After that, or without `gently` at once: SIGTERM, `grace` seconds, SIGKILL, to the whole process group of a child that leads
    one. Cancelled while they end by themselves: SIGTERM at once. Later cancellations wait; but a second `Task.cancel` of asyncio,
    which cannot be held back, means SIGKILL at once. In a forked child, which is not their parent: nothing.
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
    """Wait for the children, and unless `alone` for their process groups."""
    for child in children:
        await child.wait()
    while not alone and any(child.leaves_others for child in children):  # noqa: ASYNC110 - the kernel does not report it
        await anyio.sleep(_PAUSE)
