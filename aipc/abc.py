"""The contracts: what every channel, listener, lock, semaphore and segment promises, and what cancellation leaves behind.

Sizes are bytes. No call has a timeout parameter: use your loop's timeouts. Nothing here may be called from two threads at once.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NamedTuple, NoReturn, Self

import anyio.abc
from anyio import TypedAttributeProvider, TypedAttributeSet

from aipc.exceptions import UnsupportedOperation

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar  # with a default, so that `Listener` alone is a complete type

Buffer = bytes | bytearray | memoryview
"""Data to send: any contiguous bytes-like object."""


class Credentials(NamedTuple):
    """A peer process as the kernel saw it when it connected (SO_PEERCRED, unix(7)), or sent the message (SCM_CREDENTIALS)."""

    #: None if it has no number here: it runs in a PID namespace out of this process's sight (pid_namespaces(7))
    pid: int | None
    uid: int
    gid: int


class Message(NamedTuple):
    """One message and its metadata; None where the mechanism has none."""

    data: bytes
    type: int | None = None
    priority: int | None = None
    sender: Any = None
    fds: tuple[int, ...] = ()
    credentials: Credentials | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """The traffic of a channel since it was opened: messages, and bytes as the kernel counts them, framing included."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """A listener's connections: accepted since it was opened; handled by `serve` now; gone before they were accepted (accept(2))."""

    accepted: int
    connections: int
    failed: int


class _Attribute:
    """A key of `extra`, with a name: anyio's own shows as `<object object at 0x…>`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{owner.__name__}.{name}"

    def __repr__(self) -> str:
        return self._name


def _attribute() -> Any:
    return _Attribute()


def stays_here(thing: object) -> NoReturn:
    """Refuse to pickle or copy what is open: it is this process's."""
    raise TypeError(f"{thing!r}: it can't be pickled or copied; give the other process its URL, to open it there")


class ChannelAttribute(TypedAttributeSet):
    """Attributes for `Channel.extra`, beside anyio's `SocketAttribute` on sockets. Not every mechanism has each."""

    #: the descriptor, for fstat(2) and similar calls; the channel owns it
    descriptor: int = _attribute()
    #: the process at the other end, if the mechanism knows it
    peer_credentials: Credentials = _attribute()
    #: a pidfd of that process (SO_PEERPIDFD, Linux 6.5): it never names another process. The caller closes it
    peer_pidfd: int = _attribute()
    #: the largest message
    max_message_size: int = _attribute()
    #: the number of messages for which a POSIX queue has room
    max_messages: int = _attribute()
    #: the number of messages in the queue now
    messages: int = _attribute()
    #: the kernel's number of a System V object (`ipcs`)
    identifier: int = _attribute()
    #: the key of a System V object; 0 for a private one
    key: int = _attribute()
    #: bytes that a pipe or FIFO holds
    capacity: int = _attribute()
    #: bytes that wait in a pipe or FIFO for its receiver
    unread: int = _attribute()


class Closing(ABC):
    """A resource to close. Closing is idempotent and works under cancellation; waiting tasks get ClosedResourceError."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give everything back to the kernel."""

    def __getstate__(self) -> object:
        stays_here(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Channel(anyio.abc.ObjectStream[bytes]):
    """Moves messages: each arrives whole, once and in order, as `bytes`.

    Any number of tasks may send and receive at once; each message goes to exactly one of the receivers. Each direction belongs to
    one event loop at a time: tasks of two loops, in two threads, must not receive (or send) over one channel at once.

    Errors of every method: ClosedResourceError after `aclose` (also in waiting tasks), BrokenResourceError when the peer is gone
    or the object was removed (`ObjectRemoved`), UnsupportedOperation for the other direction of a one-way channel, ForkedError in
    a forked child.

    Cancellation: a cancelled `receive*` has consumed nothing. A cancelled `send` sent the whole message or nothing. Calls that
    need not wait are cancellation points only once in a while.
    """

    def __getstate__(self) -> object:
        stays_here(self)

    @abstractmethod
    async def send(self, item: Buffer, **meta: Any) -> None:
        """Send one message; returns when the kernel holds all of it.

        `meta` depends on the mechanism: `type` (System V), `priority` (POSIX), `fds` (Unix sockets), `to` (datagrams).
        MessageTooLarge, InvalidMessage: raised before anything is sent.

        Cancelled: the whole message was sent, or nothing. On a byte stream, a message whose first byte was sent is finished before
        the next one. If the channel is closed before that, the peer gets ProtocolError.
        """

    @abstractmethod
    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        """`send` without waiting. WouldBlock: nothing was sent."""

    @abstractmethod
    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        """Send messages in order, as many in one system call as fit.

        Cancelled, or an item is refused: the items before some point were sent whole, and none after it (`statistics` counts
        them).
        """

    @abstractmethod
    async def receive(self, **selection: Any) -> bytes:
        """Receive the next message. `selection` depends on the mechanism: `type` (System V).

        EndOfStream when the peer sends no more; ProtocolError or MessageTooLarge for a bad frame. Cancelled: nothing was
        consumed.
        """

    @abstractmethod
    def receive_nowait(self, **selection: Any) -> bytes:
        """`receive` without waiting, or WouldBlock."""

    @abstractmethod
    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        """Receive all messages that have arrived: at least one, at most `max_messages`. Cancelled: nothing was consumed."""

    @abstractmethod
    async def receive_message(self, **selection: Any) -> Message:
        """Receive the next message with its metadata. Cancelled: nothing was consumed."""

    async def peek(self) -> bytes:
        """What the next `receive` is going to give, left there for it. UnsupportedOperation for queues and signals.

        Errors as `receive`. Cancelled: nothing was consumed.
        """
        raise UnsupportedOperation(f"{self!r}: what this mechanism has can't be looked at without taking it")

    @abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that no more will come; receiving still works. UnsupportedOperation where there is no such signal."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close. Idempotent. Messages for which `send` returned stay sent. Cancelled: it is closed all the same."""

    @abstractmethod
    def statistics(self) -> ChannelStatistics:
        """Return the traffic so far."""


class StreamChannel(Channel):
    """A channel over a stream of bytes, framed by aipc: sockets, pipes, FIFOs, descriptors, and rings in shared memory."""

    @abstractmethod
    async def peek(self) -> bytes:
        """Return the message of the next `receive`, and leave it there. Errors as `receive`. Cancelled: nothing was consumed."""


ChannelT_co = TypeVar("ChannelT_co", bound=Channel, default=Channel, covariant=True)


class Listener(Closing, TypedAttributeProvider, Generic[ChannelT_co]):
    """Accepts connections, each a Channel, or of the type in brackets: `Listener[RingChannel]`.

    `extra` returns its address, as anyio's `SocketAttribute`, and more.
    """

    @abstractmethod
    async def accept(self) -> ChannelT_co:
        """Accept the next connection. One that fails before it is accepted is skipped (accept(2)). Cancelled: none was taken."""

    @abstractmethod
    async def serve(self, handler: Callable[[ChannelT_co], Awaitable[object]]) -> None:
        """Run `handler(channel)` as a task for each connection, until cancelled, and close the channel when the handler ends.

        A handler's error ends its own connection only, and is logged (logger `aipc`). EndOfStream, which a handler gets when its
        peer has left, is not logged. A connection that fails before it is accepted is skipped (accept(2)); without a free
        descriptor `serve` waits for one. Cancelled: all handlers are cancelled, and their channels closed, before it raises. After
        `drain` it returns when the last handler has ended.
        """

    async def drain(self) -> None:
        """Stop listening, close the listener, and wait until the handlers of every `serve` have ended.

        A handler that is an object with a plain method `drain`, such as `aipc.rpc.Handler`, has that called, to end what is idle.
        Do not call it in such a handler: it would wait for itself. The caller sets the limit: if this is cancelled, as by a timeout
        around it, the handlers that still run are cancelled, too, and `serve` returns when they have ended.
        """
        raise UnsupportedOperation(f"{self!r} can't be drained")

    @property
    def connections(self) -> int:
        """The number of connections that `serve` handles now."""
        raise UnsupportedOperation(f"{self!r} does not count its connections")

    def statistics(self) -> ListenerStatistics:
        """Return how many connections were accepted, are handled now, and failed before that. Also after `aclose`."""
        raise UnsupportedOperation(f"{self!r} does not count its connections")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelT_co:
        try:
            return await self.accept()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None


class Lock(ABC):
    """A mutual exclusion: at most one holder, among all tasks of all processes. `async with lock:` holds it for a block.

    Cancelled while waiting: the lock is not held, and the wait is over. Closing releases what is held. Errors of every method:
    ClosedResourceError after `aclose`, ObjectRemoved when the object was removed, ForkedError in a forked child.
    """

    def __getstate__(self) -> object:
        stays_here(self)

    @abstractmethod
    async def acquire(self) -> None:
        """Wait until this object holds the lock. Cancelled: not held."""

    @abstractmethod
    def acquire_nowait(self) -> None:
        """Take the lock, or raise WouldBlock."""

    @abstractmethod
    def release(self) -> None:
        """Release the lock. RuntimeError if this object does not hold it."""

    @abstractmethod
    def locked(self) -> bool:
        """Whether anybody holds it now."""

    @abstractmethod
    def holder(self) -> int | None:
        """The holder's pid; None if the kernel does not know it, or nobody holds the lock."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what is held, and close. Idempotent, also under cancellation; waiting tasks get ClosedResourceError."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Semaphore(Lock):
    """A counter: as many holders as its value allows, among all tasks of all processes."""

    @abstractmethod
    async def acquire(self, n: int = 1) -> None:
        """Wait until the value is `n` or more, and subtract `n` in one step. Cancelled: nothing was subtracted."""

    @abstractmethod
    def acquire_nowait(self, n: int = 1) -> None:
        """Subtract `n` from the value, or raise WouldBlock."""

    @abstractmethod
    def release(self, n: int = 1) -> None:
        """Add `n` to the value. RuntimeError if this object holds fewer, and the mechanism reverts what dead holders took."""

    @property
    @abstractmethod
    def value(self) -> int:
        """The present value."""

    @abstractmethod
    async def wait_zero(self) -> None:
        """Wait until the value is zero. Cancelled: nothing happened."""


class Segment(ABC):
    """Memory that processes share: `buf` has its bytes, `size` is the size asked for. `with segment:` closes it.

    It has no synchronisation of its own: use a lock (`locked`), or agree on when each process writes. A forked child's copy shows
    the same memory, and must be closed separately. Errors of every method: ClosedResourceError after `close`.
    """

    def __getstate__(self) -> object:
        stays_here(self)

    @property
    @abstractmethod
    def buf(self) -> memoryview:
        """The shared bytes: one object until `close` or `resize`, which release it. `buf.cast("Q")` gives the items a type."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The size in bytes, exactly as asked for at its creation, also after `close`."""

    @abstractmethod
    def resize(self, size: int) -> None:
        """Change the size to `size` bytes; the contents stay, new bytes are zero. SegmentInUse while views are held.

        Other processes keep the length that they have mapped: if it shrinks, touching the missing part is SIGBUS for them.
        UnsupportedOperation where the kernel cannot do it.
        """

    @abstractmethod
    async def flush(self, wait: bool = True) -> None:
        """Write changes to the file behind the memory, if there is one (msync(2)); without `wait`, only start writing.

        It runs in a thread. A cancelled flush leaves the thread to end by itself, without other effects.
        """

    @abstractmethod
    def close(self) -> None:
        """Unmap the memory here; other processes keep it. Idempotent.

        SegmentInUse while views of it are held here, such as slices and arrays of `buf` (not `buf` itself): then the segment stays
        open and usable, and only `buf` is a new object.
        """

    @abstractmethod
    def unlink(self) -> None:
        """Remove its name: the memory is freed with its last user. Also after `close`. ObjectMissing if the name is gone."""

    @abstractmethod
    def locked(self) -> AbstractAsyncContextManager[memoryview]:
        """`async with segment.locked() as buf:` holds the `lock` given at opening; RuntimeError if there was none.

        Cancelled while waiting: not held.
        """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
