"""The scheme table: the module that opens each scheme, for channels, listeners and locks."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from aipc._address import Address, options, parse
from aipc._io.errors import naming
from aipc.abc import Channel, Listener, Lock
from aipc.exceptions import AddressError

CHANNELS: Mapping[str, str] = {
    "fd": "aipc.transports.fd:adopt",
    "exec": "aipc.transports.process:connect",
    "fifo": "aipc.transports.pipes.fifo:connect",
    "unix": "aipc.transports.unix.stream:connect",
    "unix+dgram": "aipc.transports.unix.datagram:connect",
    "unix+seqpacket": "aipc.transports.unix.seqpacket:connect",
    "shm": "aipc.transports.shm.connect:connect",
    "udp": "aipc.transports.inet.udp:connect",
    "sysv-mq": "aipc.transports.sysv_mq:connect",
    "posix-mq": "aipc.transports.posix_mq:connect",
    "signal": "aipc.transports.realtime_signal:connect",
    "tcp": "aipc.transports.inet.tcp:connect",
    "tls": "aipc.transports.inet.tls:connect",
}
LISTENERS: Mapping[str, str] = {
    "fd": "aipc.transports.fd_listener:listen",
    "unix": "aipc.transports.unix.stream:listen",
    "unix+seqpacket": "aipc.transports.unix.seqpacket:listen",
    "shm": "aipc.transports.shm.connect:listen",
    "tcp": "aipc.transports.inet.tcp:listen",
    "tls": "aipc.transports.inet.tls:listen",
}
LOCKS: Mapping[str, str] = {
    "flock": "aipc.locks.flock:open_flock",
    "fcntl": "aipc.locks.byte_range:open_range",
    "sysv-sem": "aipc.locks.sysv_semaphore:open_semaphore",
    "posix-sem": "aipc.locks.posix_semaphore:open_semaphore",
}


class _Closable(Protocol):
    async def aclose(self) -> None: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


Opened = TypeVar("Opened", bound=_Closable)


class Opening(Generic[Opened]):
    """An object to be opened: await it, or use it as an async context manager, which also closes it. Only once."""

    def __init__(self, opener: Callable[[], Awaitable[Opened]]) -> None:
        self._opener = opener
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, Any, Opened]:
        return self._opener().__await__()

    async def __aenter__(self) -> Opened:
        if self._opened is not None:
            raise RuntimeError("it is open already: call open_channel, listen or open_lock again for another one")
        self._opened = await self._opener()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._opened, Lock):  # a lock's own block only releases it
            await self._opened.aclose()
        elif self._opened is not None:
            await self._opened.__aexit__(kind, error, trace)  # a child's end depends on the reason


def open_channel(url: str, **given: Any) -> Opening[Channel]:
    """Open a channel: `async with aipc.open_channel("unix:/run/app.sock") as channel`, or await it.

    Every option can also stand in the URL's query; the keyword wins. AddressError for an invalid URL or option: at once for an unknown
    scheme or option, otherwise when it is opened. The mechanism's reference page has the other errors. Cancelled: nothing was
    opened.
    """
    return Opening(_opener(CHANNELS, "open_channel", url, given))


def listen(url: str, **given: Any) -> Opening[Listener]:
    """Listen for connections: `async with aipc.listen("unix:/run/app.sock") as listener`, or await it.

    Options and errors as for `open_channel`. Cancelled: nothing was opened.
    """
    return Opening(_opener(LISTENERS, "listen", url, given))


def open_lock(url: str, **given: Any) -> Opening[Lock]:
    """Open a lock or a semaphore, without acquiring it: `async with aipc.open_lock("flock:/run/app.lock") as lock`, or await it.

    Options and errors as for `open_channel`. Cancelled: nothing was opened.
    """
    return Opening(_opener(LOCKS, "open_lock", url, given))


def _opener(table: Mapping[str, str], caller: str, url: str, given: Mapping[str, Any]) -> Callable[[], Awaitable[Any]]:
    address = parse(url)
    with naming(address.url):  # importing the mechanism may also fail, without a free descriptor
        function = _function(table, caller, address)
    known = inspect.signature(function).parameters.values()
    chosen = options(address, frozenset(p.name for p in known if p.kind is p.KEYWORD_ONLY), given)

    async def opened() -> Any:
        with naming(address.url):
            return await function(address, **chosen)

    return opened


def _function(table: Mapping[str, str], caller: str, address: Address) -> Callable[..., Awaitable[Any]]:
    if address.scheme not in table:
        others = [name for name, rows in _TABLES.items() if address.scheme in rows]
        hint = f"; it is a scheme of {' and '.join(others)}" if others else ""
        raise AddressError(f"{address.url!r}: {caller} knows no scheme {address.scheme!r}, only {', '.join(table)}{hint}")
    module, _, name = table[address.scheme].partition(":")
    function: Callable[..., Awaitable[Any]] = getattr(importlib.import_module(module), name)
    return function


_TABLES = {"open_channel": CHANNELS, "listen": LISTENERS, "open_lock": LOCKS}
