"""Every Unix interprocess-communication mechanism, awaitable.

abc.py          the contracts: Channel, Listener, Lock, Semaphore, Segment
exceptions.py   the error tree
_address.py     URL -> Address
_open.py        open_channel, listen, open_lock: the scheme table
transports/     moves data, one mechanism a file
locks/          excludes
wire/           framing, without I/O
_io/            the only room that waits, and the only one that knows the event loops
_sys/           plain system calls
testing/        conformance suites, cancellation injector, leak checker: for your own transports, too
cli/            the `aipc` command
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipc._open import Opening as Opening
    from aipc._open import listen as listen
    from aipc._open import open_channel as open_channel
    from aipc._open import open_lock as open_lock

_HOMES = {
    "Opening": "aipc._open",
    "listen": "aipc._open",
    "open_channel": "aipc._open",
    "open_lock": "aipc._open",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aipc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
