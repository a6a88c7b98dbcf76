"""Openers that return a mechanism's own type, so that calls beyond the contract need no isinstance.

Each does what `open_channel`, `listen` or `open_lock` does, for some of their schemes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from aipc._address import Key, keyed
from aipc.abc import Listener, Semaphore, StreamChannel

from .openers import CHANNELS, LISTENERS, LOCKS, Opening, opening

if TYPE_CHECKING:  # a mechanism is imported when it is opened
    from aipc._options import (
        ByteRangeOptions,
        RingListenerOptions,
        RingOptions,
        SemaphoreOptions,
        StreamListenerOptions,
        StreamOptions,
        SysVQueueOptions,
        TlsListenerOptions,
        TlsOptions,
    )
    from aipc.locks.byte_range import ByteRangeLock
    from aipc.transports.inet.tls_channel import TlsChannel
    from aipc.transports.queues.sysv_mq import SysVQueueChannel
    from aipc.transports.shm.channel import RingChannel

SCHEMES = {
    "open_stream": ("unix", "tcp", "tls", "shm", "fd", "fifo", "exec"),
    "open_tls": ("tls",),
    "open_ring": ("shm",),
    "open_sysv_queue": ("sysv-mq",),
    "listen_stream": ("unix", "tcp", "tls", "shm"),
    "listen_tls": ("tls",),
    "listen_ring": ("shm",),
    "open_semaphore": ("sysv-sem", "posix-sem"),
    "open_byte_range_lock": ("fcntl",),
}
"""The schemes of each opener."""


def _opening(name: str, table: Mapping[str, str], url: str, options: Mapping[str, Any]) -> Opening[Any]:
    return opening({scheme: table[scheme] for scheme in SCHEMES[name]}, name, url, options)


def open_stream(url: str, **options: Unpack[StreamOptions]) -> Opening[StreamChannel]:
    """Open a channel over a stream of bytes: as `open_channel`, and the channel has `peek`.

    Args:
        url: `unix:`, `tcp:`, `tls:`, `shm:`, `fd:`, `fifo:` or `exec:`.
        **options: Those of the scheme, as for `open_channel`.

    Raises:
        AddressError: For another scheme, too.

    Cancelled: nothing was opened.
    """
    return _opening("open_stream", CHANNELS, url, options)


def open_tls(url: str, **options: Unpack[TlsOptions]) -> Opening[TlsChannel]:
    """Connect by TLS: as `open_channel`, and the channel has `handshake`.

    Args:
        url: `tls://host:443`.
        **options: As for `open_channel`.

            - ssl_context: An ssl.SSLContext; without one it is made from the files.
            - cafile: Certificates of authorities to trust, instead of the system's.
            - certfile, keyfile: The certificate to show, and its key.
            - server_hostname: The name to check, if it is not the URL's host.
            - ragged_end: Treat the end of the TCP connection as the peer's end.
            - framing, max_message_size, nodelay, keepalive, send_buffer, receive_buffer: As for `tcp:`.
            - wait: Try until somebody listens.
            - spin: As for `open_channel`.

    Cancelled: not connected.
    """
    return _opening("open_tls", CHANNELS, url, options)


def open_ring(url: str, **options: Unpack[RingOptions]) -> Opening[RingChannel]:
    """Connect by shared memory: as `open_channel`, and the channel has `loan` and `receive_view`.

    Args:
        url: `shm:/run/app.ring`.
        **options: As for `open_channel`.

            - capacity: Bytes of each of the two rings: a power of two from 4,096 to 1 GiB (default: 4 MiB).
            - max_message_size: Bytes (default: 16 MiB).
            - wait: Try until somebody listens.
            - spin: As for `open_channel`.

    Cancelled: not connected.
    """
    return _opening("open_ring", CHANNELS, url, options)


def open_sysv_queue(key: Key, **options: Unpack[SysVQueueOptions]) -> Opening[SysVQueueChannel]:
    """Open a System V message queue: as `open_channel`, and the channel has `stat`, `change` and `remove`.

    Args:
        key: A URL such as `sysv-mq:0x4d2`, or the part behind its colon: a number, a path (with `project`), "private" (or None).
        **options: As for `open_channel`.

            - spin: As for `open_channel`.
            - create: Make the queue if it is missing.
            - exclusive: Make it; ObjectExists if it exists.
            - mode: Permissions of a new queue (default: 0o600).
            - unlink: Remove the queue on close (default: only a private one).
            - type: The default for `send` and `receive`.
            - max_bytes: Bytes for which the queue has room (default: kernel.msgmnb).
            - max_message_size: The longest message, in bytes (default: kernel.msgmax).
            - project: From 1 to 255, with a path (ftok(3)).

    Cancelled: nothing was opened.
    """
    return _opening("open_sysv_queue", CHANNELS, keyed("sysv-mq", key), options)


def listen_stream(url: str, **options: Unpack[StreamListenerOptions]) -> Opening[Listener[StreamChannel]]:
    """Listen for streams of bytes: as `listen`, and each connection has `peek`.

    Args:
        url: `unix:`, `tcp:`, `tls:` or `shm:`.
        **options: Those of the scheme, as for `listen`.

    Cancelled: nothing was opened.
    """
    return _opening("listen_stream", LISTENERS, url, options)


def listen_tls(url: str, **options: Unpack[TlsListenerOptions]) -> Opening[Listener[TlsChannel]]:
    """Listen by TLS: as `listen`, and each connection has `handshake`.

    Args:
        url: `tls://127.0.0.1:443`.
        **options: As for `listen`.

            - ssl_context: An ssl.SSLContext; without one it is made from the files.
            - certfile, keyfile: The certificate to show, and its key.
            - cafile: Clients need a certificate of one of these authorities.
            - ragged_end: Treat the end of the TCP connection as the peer's end.
            - framing, max_message_size, nodelay, keepalive, send_buffer, receive_buffer: As for `tcp:`.
            - backlog, max_connections, reuse: As for `listen`.

    Cancelled: nothing was opened.
    """
    return _opening("listen_tls", LISTENERS, url, options)


def listen_ring(url: str, **options: Unpack[RingListenerOptions]) -> Opening[Listener[RingChannel]]:
    """Listen for connections by shared memory: as `listen`, and each has `loan` and `receive_view`.

    Args:
        url: `shm:/run/app.ring`.
        **options: As for `listen`.

            - capacity: The most bytes that may wait unread in this side's direction (default: 1 GiB).
            - max_message_size: Bytes (default: 16 MiB).
            - backlog, max_connections, mode, unlink, exclusive: As for `listen`.

    Cancelled: nothing was made.
    """
    return _opening("listen_ring", LISTENERS, url, options)


def open_semaphore(url: str, **options: Unpack[SemaphoreOptions]) -> Opening[Semaphore]:
    """Open a semaphore: as `open_lock`, and it has `acquire(n)`, `release(n)`, `value` and `wait_zero`.

    Args:
        url: `sysv-sem:0x4d2` or `posix-sem:/name`.
        **options: Those of the scheme, as for `open_lock`.

            - create, exclusive, mode, unlink: As for `open_lock`.
            - value: The value of a new semaphore (default: 1).
            - index, count: System V: the number of the semaphore, and the size of a new set.
            - undo: System V: give back what a dead process held (default: true).
            - adopt: System V: take a set that nobody has operated on.
            - project: System V: from 1 to 255, with a path (ftok(3)).
            - counter: POSIX: a plain counter: nothing is held.
            - robust: POSIX: give back what a dead process held.

    Cancelled: nothing was opened.
    """
    return _opening("open_semaphore", LOCKS, url, options)


def open_byte_range_lock(url: str, **options: Unpack[ByteRangeOptions]) -> Opening[ByteRangeLock]:
    """Open a lock on bytes of a file: as `open_lock`, and it has `upgrade` and `downgrade`.

    Args:
        url: `fcntl:/run/app.lock`.
        **options: As for `open_lock`.

            - create: Make the file if it is missing (default: true).
            - exclusive: Make it; ObjectExists if it exists.
            - mode: Permissions of a new file (default: 0o600).
            - shared: Several may hold it, if all ask for `shared`.
            - start, length: Which bytes; a length of 0, the default, reaches to the end.
            - whence: What `start` counts from: "start" (the default) or "end" of the file.
            - owner: "file" (open file description locks, the default), or "process" (classic locks).

    Cancelled: nothing was opened.
    """
    return _opening("open_byte_range_lock", LOCKS, url, options)
