"""`open_publisher` and `open_subscriber`: the module for each scheme."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from aipc._address import Address, parse
from aipc._opening.openers import REDIS, Opening, opening
from aipc._texts import hints
from aipc.wire.broadcast import DEFAULT

from .outbox import OVERFLOWS
from .publisher import Publisher
from .subscriber import Subscriber

_STREAMS = "aipc.services.topics.stream_publisher:publish_on", "aipc.services.topics.stream_subscriber:subscribe_to"
_RINGS = "aipc.services.topics.ring_publisher:publish_on", "aipc.services.topics.ring_subscriber:subscribe_to"
SCHEMES: Mapping[str, tuple[str, str]] = {"unix": _STREAMS, "tcp": _STREAMS, "tls": _STREAMS, "shm": _RINGS}
"""For each scheme, the modules of its publisher and its subscriber."""
_PUBLISHERS = dict.fromkeys(REDIS, "aipc.redis.topics:publish_on")
_SUBSCRIBERS = dict.fromkeys(REDIS, "aipc.redis.topics:subscribe_to")
_FRAMED = 16 * 1024 * 1024


def open_publisher(
    url: str,
    *,
    queue: int | None = None,
    overflow: str | None = None,
    capacity: int | None = None,
    max_message_size: int | None = None,
    **options: Any,
) -> Opening[Publisher]:
    """Publish at `url`: `async with aipc.open_publisher("unix:/run/prices.sock") as publisher`, or await it.

    Args:
        url: Where to listen: `unix:`, `tcp:`, `tls:` or `shm:`; or a name on a server, `redis:`. Each option can also be in its query.
        queue: The most messages that wait for one subscriber; 1,000 by default. Over `shm:`, `capacity` replaces it.
        overflow: What happens to one more: "drop_oldest" (the default), "drop_newest", "disconnect" or "block". Over `shm:`, only
            the first.
        capacity: `shm:` only: bytes of the ring, a power of two; 4 MiB by default. A message has at most a fourth of it.
        max_message_size: Bytes of a message and its topic over sockets; 16 MiB by default.
        options: As for `listen`; over `redis:`, `history` and what its page says, in place of `queue`, `overflow` and `capacity`.

    Errors as for `listen`. Cancelled: nothing was opened.
    """
    address = parse(url)
    given = {"queue": queue, "overflow": overflow, "capacity": capacity, "max_message_size": max_message_size}
    if address.scheme in REDIS:
        said = {name: value for name, value in given.items() if value is not None}
        return opening(_PUBLISHERS, "open_publisher", url, {**said, **options})
    publish = _function(address, 0)
    own = {name: address.options.get(name) if value is None else value for name, value in given.items()}
    chosen: dict[str, Any] = {
        "queue": _size(address, "queue", own["queue"], 1000),
        "overflow": _overflow(address, own["overflow"]),
        "max_message_size": _size(address, "max_message_size", own["max_message_size"], _FRAMED),
    }
    if address.scheme == "shm":
        chosen = {"capacity": _size(address, "capacity", own["capacity"], DEFAULT)}
    elif own["capacity"] is not None:
        raise address.error("capacity is an option of shm: only; over sockets, queue counts messages")
    rest = _socket_url(address, given)
    return Opening(lambda: publish(rest, **chosen, **options), address.url)


def open_subscriber(url: str, *patterns: str, **options: Any) -> Opening[Subscriber]:
    """Subscribe at `url`: `async with aipc.open_subscriber("unix:/run/prices.sock", "eur.*") as quotes`, or await it.

    Args:
        url: Where the publisher listens. It need not exist yet.
        patterns: The topics, each as for `fnmatch.fnmatchcase`; none: all topics.
        options: As for `open_channel`.

    Errors that no later try would change are raised when it is opened, as for `open_channel`. Cancelled: nothing was opened.
    """
    address = parse(url)
    if address.scheme in REDIS:
        return opening(_SUBSCRIBERS, "open_subscriber", url, {**options, "patterns": patterns})
    subscribe = _function(address, 1)
    rest = _socket_url(address, {})
    return Opening(lambda: subscribe(rest, patterns, **options), address.url)


def _function(address: Address, side: int) -> Callable[..., Any]:
    if address.scheme not in SCHEMES:
        raise address.error(
            f"topics have no scheme {address.scheme!r}, only {', '.join([*SCHEMES, *REDIS])}{hints.meant_scheme(address.scheme, SCHEMES)}"
        )
    if "framing" in address.options:
        raise address.error("topics have a framing of their own")
    module, _, name = SCHEMES[address.scheme][side].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _size(address: Address, name: str, value: object, default: int) -> int:
    if value is None:
        return default
    try:
        size = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        size = value
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise address.error(f"{name}={value!r}: must be a whole number of 1 or more")
    return size


def _overflow(address: Address, value: object) -> str:
    chosen = OVERFLOWS[0] if value is None else value
    if chosen not in OVERFLOWS:
        raise address.error(f"overflow={value!r}: must be one of {', '.join(OVERFLOWS)}")
    if address.scheme == "shm" and chosen != OVERFLOWS[0]:
        raise address.error(f"overflow={value!r}: over shm: only {OVERFLOWS[0]}: the publisher waits for nobody")
    return str(chosen)


def _socket_url(address: Address, names: Mapping[str, object]) -> str:
    """The URL without these options; for `shm:`, that of the Unix socket at which publisher and subscribers meet."""
    rest = {name: value for name, value in address.options.items() if name not in names}
    query = "?" + urlencode(rest, errors="surrogateescape") if rest else ""
    place = address.url.partition("?")[0]
    return place.replace("shm:", "unix:", 1) + query if address.scheme == "shm" else place + query
