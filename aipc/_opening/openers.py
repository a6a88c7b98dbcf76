"""The scheme table: the module that opens each scheme, for channels, listeners and locks."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, Unpack

from aipc._address import Address, concealed, parse
from aipc._address import options as options_of
from aipc._io.errors import naming
from aipc._texts import hints
from aipc._texts.shown import shown
from aipc.abc import Channel, Listener, Lock, stays_here
from aipc.exceptions import AddressError, ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from aipc._options import ChannelOptions, ListenerOptions, LockOptions

_logger = logging.getLogger("aipc")

REDIS = ("redis", "rediss", "redis+unix", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster")
"""The schemes of Redis: each takes all of its objects."""
CHANNELS: dict[str, str] = {
    "fd": "aipc.transports.fd:adopt",
    "exec": "aipc.transports.process:connect",
    "fifo": "aipc.transports.pipes.fifo:connect",
    "unix": "aipc.transports.unix.stream:connect",
    "unix+dgram": "aipc.transports.unix.datagram:connect",
    "unix+seqpacket": "aipc.transports.unix.seqpacket:connect",
    "shm": "aipc.transports.shm.connect:connect",
    "udp": "aipc.transports.inet.udp:connect",
    "sysv-mq": "aipc.transports.queues.sysv_mq:connect",
    "posix-mq": "aipc.transports.queues.posix_mq:connect",
    "signal": "aipc.transports.queues.realtime_signal:connect",
    "tcp": "aipc.transports.inet.tcp:connect",
    "tls": "aipc.transports.inet.tls:connect",
    "jobs": "aipc.services.jobs.channel:connect",
    **dict.fromkeys(REDIS, "aipc.redis.opening:connect"),
}
LISTENERS: Mapping[str, str] = {
    "fd": "aipc.transports.fd_listener:listen",
    "unix": "aipc.transports.unix.stream:listen",
    "unix+seqpacket": "aipc.transports.unix.seqpacket:listen",
    "shm": "aipc.transports.shm.connect:listen",
    "tcp": "aipc.transports.inet.tcp:listen",
    "tls": "aipc.transports.inet.tls:listen",
    **dict.fromkeys(REDIS, "aipc.redis.listener:listen"),
}
LOCKS: Mapping[str, str] = {
    "flock": "aipc.locks.flock:open_flock",
    "fcntl": "aipc.locks.byte_range:open_range",
    "sysv-sem": "aipc.locks.sysv_semaphore:open_semaphore",
    "posix-sem": "aipc.locks.posix_semaphore:open_semaphore",
    **dict.fromkeys(REDIS, "aipc.redis.opening:open_lock"),
}
CONNECTIONS: Mapping[str, str] = CHANNELS | dict.fromkeys(REDIS, "aipc.redis.listener:connect")
"""What `rpc.connect` opens: where a channel of that scheme is no connection to a listener, a connection."""


class _Closable(Protocol):
    async def aclose(self) -> None: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


Opened_co = TypeVar("Opened_co", bound=_Closable, covariant=True)


class Opening(Generic[Opened_co]):
    """An object to be opened: await it, or use it as an async context manager, which also closes it. Only once."""

    def __init__(self, opener: Callable[[], Awaitable[Opened_co]], name: str = "") -> None:
        self._opener = opener
        self._name = name
        self._opened: Opened_co | None = None

    def __await__(self) -> Generator[Any, Any, Opened_co]:
        return self._opener().__await__()

    async def __aenter__(self) -> Opened_co:
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

    def __getstate__(self) -> object:
        stays_here(self)

    def __repr__(self) -> str:
        return shown(self, lambda: (self._name, "not open yet" if self._opened is None else f"opened as {self._opened!r}"))

    if not TYPE_CHECKING:  # or type checkers would take any member for one of its own

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{name}: {_NOT_OPEN}")

        def __aiter__(self) -> NoReturn:
            raise TypeError(_NOT_OPEN)


_NOT_OPEN = "this is not open yet: await it, or use it with `async with ... as ...:`"


def open_channel(url: str, **options: Unpack[ChannelOptions]) -> Opening[Channel]:
    """Open a channel: `async with aipc.open_channel("unix:/run/app.sock") as channel`, or await it.

    Every option can also stand in the URL's query under the same name; the keyword wins. The page of each scheme lists
    its options and their defaults. `open_stream` and similar
    openers return the mechanism's own type.

    Args:
        url: `scheme:path` or `scheme://host:port`, optionally with a query of options.
        **options: Those of the URL's scheme, out of these.

            - create: Make the FIFO or queue if it is missing.
            - exclusive: Make it; ObjectExists if it exists.
            - mode: Permissions of a new object, such as 0o600.
            - unlink: Remove the object on close.
            - framing: How messages are marked in a stream of bytes: "u32" (the default), "u32le", "u64", "lines", "null",
              "fixed:N", "none".
            - max_message_size: The longest message, in bytes.
            - fds: Unix sockets: collect descriptors from the first message on.
            - spin: Look for a while, up to 0.2 ms, before a wait parks, if that pays (the default). With False waits park at once:
              they cost less processor time, and last longer. What `listen` accepts likewise. Not `jobs:` and `redis:`.
            - shell: `exec:`: run the command by a shell.
            - direction: FIFO: "receive" or "send".
            - keep_open: FIFO: hold the other end, too, so that the stream does not end when the other side leaves.
            - wait: FIFO: wait for the other side before the channel is open. For what connects to a listener: try until somebody listens.
            - capacity: Bytes for which a FIFO, or each ring of `shm:`, has room.
            - bind: Datagrams: the address at which this side receives.
            - reuse: UDP: share the port (SO_REUSEPORT).
            - send_buffer, receive_buffer: Bytes of a socket's buffers.
            - nodelay: TCP, TLS: send small messages at once (TCP_NODELAY).
            - keepalive: TCP, TLS: notice when the peer is gone (SO_KEEPALIVE).
            - ssl_context, cafile, certfile, keyfile, server_hostname: TLS: certificates, and the name to check.
            - ragged_end: TLS: treat the end of the TCP connection as the peer's end.
            - type: System V: the default type for `send` and `receive`.
            - max_bytes: System V: bytes for which the queue has room.
            - project: System V: with a path, from 1 to 255 (ftok(3)).
            - priority: POSIX queues: the default priority for `send`.
            - max_messages: POSIX queues: messages for which a new queue has room. `jobs:`: from how many on senders wait.
            - max_attempts: `jobs:`: how often a job may be leased before it is dead.
            - durable: `jobs:`: sync each transaction, against power loss.
            - db, name: `redis+unix:`: the database's number, and the queue's name there.
            - lease_seconds: `redis:`: after how long without a sign of life of its consumer a job is for others.
            - history: `redis:`: how many jobs that were done are kept.
            - sentinel_password: `redis-sentinel:`: the sentinels' password; that of the master stands in the URL.
            - pid: Signals: the process to send to.

    Raises:
        AddressError: An invalid URL or option: at once for an unknown scheme or option, otherwise when it is opened.

    The page of each scheme has its other errors. Cancelled: nothing was opened.
    """
    return opening(CHANNELS, "open_channel", url, options)


def listen(url: str, **options: Unpack[ListenerOptions]) -> Opening[Listener]:
    """Listen for connections: `async with aipc.listen("unix:/run/app.sock") as listener`, or await it.

    Options and errors as for `open_channel`, except:

    Args:
        url: `unix:`, `unix+seqpacket:`, `shm:`, `tcp:`, `tls:`, `redis:`, or `fd:` with the number of a listening socket.
        **options: Those of the URL's scheme. In addition to those of `open_channel`:

            - backlog: Connections that may wait in the kernel to be accepted.
            - max_connections: Handlers that `serve` runs at once; further connections wait in the kernel.
            - mode, unlink, exclusive: For the socket's file. With `exclusive` not even a stale file is replaced.
            - reuse: TCP, TLS: share the port (SO_REUSEPORT).
            - capacity: `shm:`: the most bytes that may wait unread in this side's direction.

    Cancelled: nothing was opened.
    """
    return opening(LISTENERS, "listen", url, options)


def open_lock(url: str, **options: Unpack[LockOptions]) -> Opening[Lock]:
    """Open a lock or a semaphore, without acquiring it: `async with aipc.open_lock("flock:/run/app.lock") as lock`, or await it.

    Errors as for `open_channel`. `open_semaphore` and `open_byte_range_lock` return the lock's own type.

    Args:
        url: `flock:`, `fcntl:`, `sysv-sem:`, `posix-sem:` or `redis:`.
        **options: Those of the URL's scheme, out of these.

            - create: Make the object if it is missing: by default only a file.
            - exclusive: Make it; ObjectExists if it exists.
            - mode: Permissions of a new object, such as 0o600.
            - unlink: Remove the object on close.
            - shared: Files: several may hold it, if all ask for `shared`.
            - start, length: `fcntl:`: which bytes; a length of 0 reaches to the end.
            - whence: `fcntl:`: what `start` counts from: "start" (the default) or "end" of the file.
            - owner: `fcntl:`: "file" (open file description locks), or "process" (classic locks).
            - value: Semaphores: the value of a new one.
            - index, count: System V: the number of the semaphore, and the size of a new set.
            - undo: System V: give back what a dead process held (SEM_UNDO).
            - adopt: System V: take a set that nobody has operated on.
            - project: System V: with a path, from 1 to 255 (ftok(3)).
            - counter: POSIX: a plain counter: nothing is held.
            - robust: POSIX: give back what a dead process held.
            - ttl: `redis:`: seconds for which the lock is held without a renewal.
            - wait: `redis:`: wait until the server listens.
            - db, name: `redis+unix:`: the database's number, and the lock's name there.
            - cafile, certfile, keyfile, server_hostname, ssl_context: `rediss:`: as for TLS channels.
            - sentinel_password: `redis-sentinel:`: the sentinels' password.

    Cancelled: nothing was opened.
    """
    return opening(LOCKS, "open_lock", url, options)


def opening(table: Mapping[str, str], caller: str, url: str, given: Mapping[str, Any]) -> Opening[Any]:
    """Return the opener of `url` in `table`. AddressError at once for a scheme or option that it does not have."""
    given = concealed(given)
    try:
        address = parse(url)
    finally:
        del url  # a traceback would show its password
    with naming(address.url):  # importing the mechanism may fail, too: for want of a descriptor
        function, check = _mechanism(table, caller, address)
    known = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    chosen = options_of(address, frozenset(known), given)

    if check is not None:
        check(address, **chosen)

    creates = chosen.get("create", known["create"].default) if "create" in known else None

    async def opened() -> Any:
        try:
            with naming(address.url):
                made = await function(address, **chosen)
        except (ObjectMissing, ObjectExists) as error:
            raise hints.about(
                error,
                address.scheme,
                chosen,
                connects=caller.startswith("open_") and address.scheme in CHANNELS,
                creates=creates,
            ) from None
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%s: opened by %s", repr(made), caller)  # its state now, not when a handler shows this
        return made

    return Opening(opened, address.url)


def _mechanism(
    table: Mapping[str, str], caller: str, address: Address
) -> tuple[Callable[..., Awaitable[Any]], Callable[..., object] | None]:
    """The opener, and the module's `check`, if it has one: AddressError for what can be seen without opening anything."""
    if address.scheme not in table:
        others = [name for name, rows in _TABLES.items() if address.scheme in rows]
        hint = f"; it is a scheme of {' and '.join(others)}" if others else hints.meant_scheme(address.scheme, table)
        raise AddressError(f"{address.url!r}: {caller} knows no scheme {address.scheme!r}, only {', '.join(table)}{hint}")
    module = importlib.import_module(table[address.scheme].partition(":")[0])
    return opener_of(table, address), getattr(module, "check", None)


def opener_of(table: Mapping[str, str], address: Address) -> Callable[..., Awaitable[Any]]:
    """The mechanism's function; its keyword-only parameters are the options. KeyError for a scheme that `table` lacks."""
    module, _, name = table[address.scheme].partition(":")
    function: Callable[..., Awaitable[Any]] = getattr(importlib.import_module(module), name)
    return function


_TABLES = {"open_channel": CHANNELS, "listen": LISTENERS, "open_lock": LOCKS}
