"""The options of each opener, for type checkers and editors: names and types. `_address.OPTIONS` reads them.
Nothing imports it at run time: to make these classes takes 2 ms.

tests/opening/test_options.py checks that an opener's options here are the keyword-only parameters of the mechanisms behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    import ssl


class ChannelOptions(TypedDict, total=False):
    """The options of `open_channel`, of all schemes. `docs/reference/urls-and-options.md` says which scheme takes which."""

    bind: str
    cafile: str
    capacity: int
    certfile: str
    create: bool
    db: int
    direction: Literal["receive", "send"]
    durable: bool
    exclusive: bool
    fds: bool
    framing: str
    history: int
    keep_open: bool
    keepalive: bool
    keyfile: str
    lease_seconds: float
    max_attempts: int
    max_bytes: int
    max_message_size: int
    max_messages: int
    mode: int
    name: str
    nodelay: bool
    pid: int
    priority: int
    project: int
    ragged_end: bool
    receive_buffer: int
    reuse: bool
    send_buffer: int
    sentinel_password: str
    server_hostname: str
    shell: bool
    spin: bool
    ssl_context: ssl.SSLContext
    type: int
    unlink: bool
    wait: bool


class StreamOptions(TypedDict, total=False):
    """The options of `open_stream`."""

    cafile: str
    capacity: int
    certfile: str
    create: bool
    direction: Literal["receive", "send"]
    exclusive: bool
    fds: bool
    framing: str
    keep_open: bool
    keepalive: bool
    keyfile: str
    max_message_size: int
    mode: int
    nodelay: bool
    ragged_end: bool
    receive_buffer: int
    send_buffer: int
    server_hostname: str
    shell: bool
    spin: bool
    ssl_context: ssl.SSLContext
    unlink: bool
    wait: bool


class TlsOptions(TypedDict, total=False):
    """The options of `open_tls`."""

    cafile: str
    certfile: str
    framing: str
    keepalive: bool
    keyfile: str
    max_message_size: int
    nodelay: bool
    ragged_end: bool
    receive_buffer: int
    send_buffer: int
    server_hostname: str
    spin: bool
    ssl_context: ssl.SSLContext
    wait: bool


class RingOptions(TypedDict, total=False):
    """The options of `open_ring`."""

    capacity: int
    max_message_size: int
    spin: bool
    wait: bool


class SysVQueueOptions(TypedDict, total=False):
    """The options of `open_sysv_queue`."""

    create: bool
    exclusive: bool
    max_bytes: int
    max_message_size: int
    mode: int
    project: int
    spin: bool
    type: int
    unlink: bool


class JobsOptions(TypedDict, total=False):
    """The options of `open_jobs`."""

    create: bool
    durable: bool
    exclusive: bool
    max_attempts: int
    max_message_size: int
    max_messages: int
    mode: int
    unlink: bool


class StreamListenerOptions(TypedDict, total=False):
    """The options of `listen_stream`."""

    backlog: int
    cafile: str
    capacity: int
    certfile: str
    exclusive: bool
    fds: bool
    framing: str
    keepalive: bool
    keyfile: str
    max_connections: int
    max_message_size: int
    mode: int
    nodelay: bool
    ragged_end: bool
    receive_buffer: int
    reuse: bool
    send_buffer: int
    spin: bool
    ssl_context: ssl.SSLContext
    unlink: bool


class ListenerOptions(StreamListenerOptions, total=False):
    """The options of `listen`, of all schemes."""

    db: int
    name: str
    sentinel_password: str
    server_hostname: str


class TlsListenerOptions(TypedDict, total=False):
    """The options of `listen_tls`."""

    backlog: int
    cafile: str
    certfile: str
    framing: str
    keepalive: bool
    keyfile: str
    max_connections: int
    max_message_size: int
    nodelay: bool
    ragged_end: bool
    receive_buffer: int
    reuse: bool
    send_buffer: int
    spin: bool
    ssl_context: ssl.SSLContext


class RingListenerOptions(TypedDict, total=False):
    """The options of `listen_ring`."""

    backlog: int
    capacity: int
    exclusive: bool
    max_connections: int
    max_message_size: int
    mode: int
    spin: bool
    unlink: bool


class LockOptions(TypedDict, total=False):
    """The options of `open_lock`, of all schemes."""

    adopt: bool
    cafile: str
    certfile: str
    count: int
    counter: bool
    create: bool
    db: int
    exclusive: bool
    index: int
    keyfile: str
    length: int
    mode: int
    name: str
    owner: Literal["file", "process"]
    project: int
    robust: bool
    sentinel_password: str
    server_hostname: str
    shared: bool
    ssl_context: ssl.SSLContext
    start: int
    ttl: float
    undo: bool
    unlink: bool
    value: int
    wait: bool
    whence: Literal["start", "end"]


class ByteRangeOptions(TypedDict, total=False):
    """The options of `open_byte_range_lock`."""

    create: bool
    exclusive: bool
    length: int
    mode: int
    owner: Literal["file", "process"]
    shared: bool
    start: int
    whence: Literal["start", "end"]


class SemaphoreOptions(TypedDict, total=False):
    """The options of `open_semaphore`, of both schemes."""

    adopt: bool
    count: int
    counter: bool
    create: bool
    exclusive: bool
    index: int
    mode: int
    project: int
    robust: bool
    undo: bool
    unlink: bool
    value: int


class PrimitiveOptions(TypedDict, total=False):
    """The options of `Event` and `RWLock`, and of the other primitives."""

    create: bool
    exclusive: bool
    mode: int
    project: int
    unlink: bool


class ConditionOptions(PrimitiveOptions, total=False):
    """The options of `Condition`."""

    waiters: int


class SysVSemaphoreSetOptions(PrimitiveOptions, total=False):
    """The options of `SysVSemaphoreSet`."""

    adopt: bool
    count: int
    undo: bool
    value: int
