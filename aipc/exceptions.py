"""The whole error tree.

Each error is an `AipcError` and also the error that a user of the plain system call, or of anyio, would catch. Ends of
streams, closed channels and would-block conditions are anyio's own `EndOfStream`, `ClosedResourceError`,
`BrokenResourceError` and `WouldBlock`.
"""

from __future__ import annotations

import socket
import ssl
import threading

import anyio


class AipcError(Exception):
    """Base of every error that aipc defines."""


class AddressError(AipcError, ValueError):
    """A URL or an option that can't be meant: the text names it and says what would be right."""


class MessageTooLarge(AipcError, ValueError):
    """A message over the mechanism's limit, or a peer's frame over `max_message_size`. Nothing of it was sent or taken."""


class InvalidMessage(AipcError, ValueError):
    """A message that this framing or mechanism can't carry, such as one with a line feed over `framing=lines`."""


class LimitExceeded(AipcError, OSError, OverflowError):
    """A count would pass the kernel's limit: a semaphore's value, queued signals, queues (ERANGE, EAGAIN, EMFILE, ENOSPC).

    Nothing changed.
    """


class NoSpace(AipcError, OSError):
    """There is no room for it: the file system, the memory, or the kernel's limit on it (ENOSPC, EDQUOT, EFBIG, ENOMEM)."""


class SegmentInUse(AipcError, BufferError):
    """Views of a segment's memory are still held here, so it can't be unmapped: release them first. Nothing changed."""


class UnsupportedOperation(AipcError):
    """The mechanism has no such operation: the other way of a one-way channel, descriptors over a queue."""


class ObjectExists(AipcError, FileExistsError):
    """The object is there already (`exclusive`), or a live listener owns the path (EEXIST, EADDRINUSE)."""


class ObjectMissing(AipcError, FileNotFoundError):
    """No object has that name, key or path (ENOENT)."""


class ProcessMissing(ObjectMissing, ProcessLookupError):
    """No process has that pid, or no group (ESRCH)."""


class WrongObject(AipcError, OSError):
    """Something else has that name: a plain file where a socket should be, a symbolic link."""


class AccessDenied(AipcError, PermissionError):
    """The object's permissions forbid it (EACCES, EPERM)."""


class NobodyListens(AipcError, ConnectionRefusedError):
    """The socket is there, but no process listens on it (ECONNREFUSED)."""


class UnknownHost(AipcError, socket.gaierror):
    """No address for a host's name."""


class CertificateRefused(AipcError, ssl.SSLCertVerificationError):
    """A TLS peer's certificate is not to be trusted, or not for that name: `verify_message` says why."""


class ObjectRemoved(AipcError, anyio.BrokenResourceError):
    """The kernel object was removed while this process used it (EIDRM, or EINVAL at the next try)."""


class BrokenBarrierError(AipcError, anyio.BrokenResourceError, threading.BrokenBarrierError):
    """A barrier was aborted, or reset while this task waited at it; as for threading's and multiprocessing's barriers."""


class WorkerDied(AipcError, anyio.BrokenResourceError):
    """A worker ended without a result: it was killed, or cancelled, or left by `sys.exit`. The text says how."""


class WorkerFailed(AipcError, RuntimeError):
    """A worker's function raised an error that can't travel: the text is its traceback."""


class ProtocolError(AipcError, anyio.BrokenResourceError):
    """A peer's bytes break the framing: the channel can't be trusted from here on."""


class Disconnected(AipcError, anyio.BrokenResourceError):
    """The connection of a reconnecting channel was lost: what was sent last may not have arrived. The next call connects again."""


class ForkedError(AipcError, RuntimeError):
    """A forked child used an object that belongs to its parent: open a new one in the child."""
