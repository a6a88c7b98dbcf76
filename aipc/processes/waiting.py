"""`aipc.wait`: the first of several children to end (wait(2))."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from .stopping import Stoppable, processes_of


async def wait(*children: Stoppable) -> Stoppable:
    """Wait until one of the children has ended, and give that one; the first of them, if several have.

    Children are what `popen`, `pipeline` and `spawn` give. No other child of this process is waited for, and none is closed: a loop
    leaves out those that it has been given. ValueError without children; errors as their `wait`. Cancelled: nothing happened.
    """
    if not children:
        raise ValueError("wait() takes the children to wait for: what popen, pipeline and spawn gave")
    await anyio.lowlevel.checkpoint()
    if not _ended(children):
        async with anyio.create_task_group() as tasks:

            async def watch(child: Stoppable) -> None:
                await child.wait()
                tasks.cancel_scope.cancel()

            for child in children:
                tasks.start_soon(watch, child)
    return _ended(children)[0]


def _ended(children: tuple[Stoppable, ...]) -> list[Stoppable]:
    return [child for child in children if all(process.returncode is not None for process in processes_of(child))]
