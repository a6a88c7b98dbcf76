"""The whole error tree.

Each error is an `AipcError` and also the error that a user of the plain system call, or of anyio, would catch. Ends of
streams, closed channels and would-block conditions are anyio's own `EndOfStream`, `ClosedResourceError`,
`BrokenResourceError` and `WouldBlock`.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from typing import Any

import anyio


class AipcError(Exception):
    """Base of every error that aipc defines."""


class AddressError(AipcError, ValueError):
    """An invalid URL or option: the text names it and says what would be right."""


class MessageTooLarge(AipcError, ValueError):
    """A message over the mechanism's limit, or a peer's frame over `max_message_size`. Nothing of it was sent or consumed."""


class InvalidMessage(AipcError, ValueError):
    """A message that this framing or mechanism cannot carry, such as one with a line feed over `framing=lines`."""


class LimitExceeded(AipcError, OSError, OverflowError):
    """A count would exceed the kernel's limit: a semaphore's value, queued signals, queues (ERANGE, EAGAIN, EMFILE, ENOSPC).

    Nothing changed.
    """


class NoSpace(AipcError, OSError):
    """Not enough space: in the file system, in memory, or under the kernel's limit for it (ENOSPC, EDQUOT, EFBIG, ENOMEM)."""


class SegmentInUse(AipcError, BufferError):
    """Views of a segment's memory are still held here, so it cannot be unmapped: release them first. Nothing changed."""


class UnsupportedOperation(AipcError):
    """The mechanism has no such operation: the other direction of a one-way channel, descriptors over a queue."""


class ObjectExists(AipcError, FileExistsError):
    """The object exists already (`exclusive`), or a live listener owns the path (EEXIST, EADDRINUSE)."""


class ObjectMissing(AipcError, FileNotFoundError):
    """No object has that name, key or path (ENOENT)."""


class ProcessMissing(ObjectMissing, ProcessLookupError):
    """No process, or no process group, has that number (ESRCH)."""


class WrongObject(AipcError, OSError):
    """The name belongs to another kind of object: a plain file where a socket should be, a symbolic link."""


class AccessDenied(AipcError, PermissionError):
    """The object's permissions forbid it (EACCES, EPERM)."""


class NobodyListens(AipcError, ConnectionRefusedError):
    """The socket exists, but no process listens on it (ECONNREFUSED)."""


class UnknownHost(AipcError, socket.gaierror):
    """A host's name has no address."""


class CertificateRefused(AipcError, ssl.SSLCertVerificationError):
    """A TLS peer's certificate is not trusted, or is for another name: `verify_message` gives the reason."""


class ObjectRemoved(AipcError, anyio.BrokenResourceError):
    """The kernel object was removed while this process used it (EIDRM, or EINVAL at the next try)."""


class LeaseLost(AipcError, anyio.BrokenResourceError):
    """What was leased, a job or a lock, was given back or went to somebody else before it was done with."""


class BrokenBarrierError(AipcError, anyio.BrokenResourceError, threading.BrokenBarrierError):
    """A barrier was aborted, or reset while this task waited at it; as for threading's and multiprocessing's barriers."""


class WorkerDied(AipcError, anyio.BrokenResourceError):
    """A worker ended without a result: it was killed or cancelled, or called `sys.exit`. The text says how it ended."""


class PoolBusy(AipcError, anyio.WouldBlock):
    """As many requests as `max_waiting` allows wait for a worker of the pool already. Nothing was sent."""


class WorkerFailed(AipcError, RuntimeError):
    """A worker's function raised an error that cannot be pickled: the text is its traceback."""


class CommandFailed(AipcError, subprocess.CalledProcessError):
    """A command of `aipc.run` ended with an exit status that is not 0, or by a signal.

    It has `returncode`, `cmd`, `stdout`, `stderr`, and `outcome`, how it ended in words. The text has the last line of its stderr.
    """

    def __init__(
        self, returncode: int, cmd: Any, stdout: bytes | None = None, stderr: bytes | None = None, outcome: str = ""
    ) -> None:
        super().__init__(returncode, cmd, stdout, stderr)
        self.outcome: str = outcome or f"ended with {returncode}"

    def __str__(self) -> str:
        lines = (self.stderr or b"").decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{self.cmd!r}: {self.outcome}{f': {last[:200]}' if last else ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.returncode, self.cmd, self.stdout, self.stderr, self.outcome)


class ProgramFailed(AipcError, RuntimeError):
    """A supervised program ended before it was ready. The text says how."""


class ProtocolError(AipcError, anyio.BrokenResourceError):
    """A peer's bytes break the framing: the channel cannot be used any more."""


class Disconnected(AipcError, anyio.BrokenResourceError):
    """The connection of a reconnecting channel was lost: what was sent last may not have arrived. The next call connects again."""


class ForkedError(AipcError, RuntimeError):
    """A forked child used an object that belongs to its parent: open a new one in the child."""
