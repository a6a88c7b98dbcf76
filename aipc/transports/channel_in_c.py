"""A channel's own steps in C (`_sys/_native_channel.c` and `_native_reception.c`): what they need to know of the Python code.

`native.send(channel, item)` encodes and writes a short message. `native.Reception(channel)` is what `receive` awaits on a Unix socket,
where the loop reads for a task that is parked. `ByteStreamChannel` has the rules.
"""

from __future__ import annotations

import logging
from functools import partial

from aipc._io import fork
from aipc._io.handle import FileHandle
from aipc._io.loop import backend
from aipc._io.loop.reactor import Reactor
from aipc._io.loop.spin import LONGEST, MOST_COUNTED, WEIGHT, Spin
from aipc._io.readiness import Readiness
from aipc._io.waiter import BUDGET
from aipc._sys.crowd import Crowd
from aipc._sys.native import native
from aipc._sys.signals import sigpipe


def prepare(channel: type[object]) -> None:
    """Show the classes and the limits to C, before the first channel is made."""
    if native is not None:
        native.use(
            classes={
                "channel": channel,
                "crowd": Crowd,
                "handle": FileHandle,
                "reactor": Reactor,
                "readiness": Readiness,
                "spin": Spin,
            },
            future=backend.asyncio_future,
            cancelled_error=backend.asyncio_cancelled,
            running_loop=backend.asyncio_loop,
            in_trio_task=backend.in_trio_task,
            logs_waits=partial(logging.getLogger("aipc").isEnabledFor, logging.DEBUG),  # as `long_waits` asks
            fork_names=vars(fork),
            sigpipe_names=vars(sigpipe),
            full_budget=BUDGET,
            longest_spin=LONGEST,
            longest_wait=MOST_COUNTED,
            weight=WEIGHT,
        )
