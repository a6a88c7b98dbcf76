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
    from aipc.abc import Channel as Channel
    from aipc.abc import ChannelAttribute as ChannelAttribute
    from aipc.abc import ChannelStatistics as ChannelStatistics
    from aipc.abc import Credentials as Credentials
    from aipc.abc import Listener as Listener
    from aipc.abc import Lock as Lock
    from aipc.abc import Message as Message
    from aipc.abc import Segment as Segment
    from aipc.abc import Semaphore as Semaphore
    from aipc.exceptions import AccessDenied as AccessDenied
    from aipc.exceptions import AddressError as AddressError
    from aipc.exceptions import AipcError as AipcError
    from aipc.exceptions import CertificateRefused as CertificateRefused
    from aipc.exceptions import ForkedError as ForkedError
    from aipc.exceptions import InvalidMessage as InvalidMessage
    from aipc.exceptions import LimitExceeded as LimitExceeded
    from aipc.exceptions import MessageTooLarge as MessageTooLarge
    from aipc.exceptions import NobodyListens as NobodyListens
    from aipc.exceptions import ObjectExists as ObjectExists
    from aipc.exceptions import ObjectMissing as ObjectMissing
    from aipc.exceptions import ObjectRemoved as ObjectRemoved
    from aipc.exceptions import ProtocolError as ProtocolError
    from aipc.exceptions import UnknownHost as UnknownHost
    from aipc.exceptions import UnsupportedOperation as UnsupportedOperation
    from aipc.exceptions import WrongObject as WrongObject
    from aipc.transports.pair import channel_pair as channel_pair
    from aipc.transports.pipe import pipe as pipe

_HOMES = {
    "aipc._open": ("Opening", "listen", "open_channel", "open_lock"),
    "aipc.abc": (
        "Channel", "ChannelAttribute", "ChannelStatistics", "Credentials", "Listener", "Lock", "Message", "Segment", "Semaphore",
    ),
    "aipc.exceptions": (
        "AccessDenied", "AddressError", "AipcError", "CertificateRefused", "ForkedError", "InvalidMessage", "LimitExceeded",
        "MessageTooLarge",
        "NobodyListens", "ObjectExists", "ObjectMissing", "ObjectRemoved", "ProtocolError", "UnknownHost", "UnsupportedOperation",
        "WrongObject",
    ),
    "aipc.transports.pair": ("channel_pair",),
    "aipc.transports.pipe": ("pipe",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'aipc' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
