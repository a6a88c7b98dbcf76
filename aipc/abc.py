"""The contracts: what every channel, listener, lock, semaphore and segment promises, and what cancellation leaves behind.

Sizes are bytes. Times have no parameter: use your loop's timeouts. Nothing here is safe to call from two threads at once.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self

import anyio
import anyio.abc
from anyio import TypedAttributeProvider, TypedAttributeSet, typed_attribute

from aipc.exceptions import UnsupportedOperation

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar  # with a default, so that `Listener` alone is a complete type

Buffer = bytes | bytearray | memoryview
"""What can be sent: any contiguous bytes-like object."""


class Credentials(NamedTuple):
    """A peer process as the kernel saw it when it connected (SO_PEERCRED, unix(7)), or sent the message (SCM_CREDENTIALS)."""

    #: None if it has no number here: it runs in a PID namespace that this process can't see into (pid_namespaces(7))
    pid: int | None
    uid: int
    gid: int


class Message(NamedTuple):
    """One message and what its mechanism tells about it; None where it tells nothing."""

    data: bytes
    type: int | None = None
    priority: int | None = None
    sender: Any = None
    fds: tuple[int, ...] = ()
    credentials: Credentials | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """What went through a channel since it was opened: messages, and bytes as the kernel counts them, framing included."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int


class ChannelAttribute(TypedAttributeSet):
    """What `Channel.extra` can tell, besides anyio's `SocketAttribute` on sockets. Not every mechanism has each."""

    #: the descriptor, for fstat(2) and the like; the channel keeps owning it
    descriptor: int = typed_attribute()
    #: the process at the other end, when the mechanism knows
    peer_credentials: Credentials = typed_attribute()
    #: a pidfd of that process (SO_PEERPIDFD, Linux 6.5): no other process can come to have it. Yours to close
    peer_pidfd: int = typed_attribute()
    #: the largest message that the mechanism takes
    max_message_size: int = typed_attribute()
    #: how many messages a POSIX queue has room for
    max_messages: int = typed_attribute()
    #: how many messages are in the queue now
    messages: int = typed_attribute()
    #: the kernel's number of a System V object (`ipcs`)
    identifier: int = typed_attribute()
    #: the key of a System V object; 0 for a private one
    key: int = typed_attribute()
    #: bytes that a pipe or FIFO holds
    capacity: int = typed_attribute()
    #: bytes that wait in a pipe or FIFO for its receiver
    unread: int = typed_attribute()


class Closing(ABC):
    """Something to close. Closing twice is harmless; it works under cancellation; tasks that wait see ClosedResourceError."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give everything back to the kernel."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Channel(anyio.abc.ObjectStream[bytes]):
    """Moves messages: each arrives whole, once and in order, as `bytes`.

    Any number of tasks may send and receive at once; each message goes to exactly one of the receivers.

    Errors of every method: ClosedResourceError after `aclose` (in waiting tasks, too), BrokenResourceError when the peer is
    gone or the object was removed (`ObjectRemoved`), UnsupportedOperation for the other way of a one-way channel,
    ForkedError in a forked child.

    Cancellation: a cancelled `receive*` has consumed nothing. A cancelled `send` sent the message wholly or not at all. Calls
    that need not wait are cancellation points only every so many times.
    """

    @abstractmethod
    async def send(self, item: Buffer, **meta: Any) -> None:
        """Send one message; returns when the kernel holds all of it.

        `meta` is the mechanism's own: `type` (System V), `priority` (POSIX), `fds` (Unix sockets), `to` (datagrams).
        MessageTooLarge, InvalidMessage: before anything is sent.

        Cancelled: wholly sent or not at all. On a byte stream, a message whose first byte had left is finished ahead of
        the next one (if the channel is closed before that, the peer sees ProtocolError).
        """

    @abstractmethod
    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        """`send`, or WouldBlock, and then nothing was sent."""

    @abstractmethod
    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        """Send messages in order, as many to a system call as fit.

        Cancelled, or an item refused: the items before a certain one were sent wholly, and none from there on
        (`statistics` counts them).
        """

    @abstractmethod
    async def receive(self, **selection: Any) -> bytes:
        """The next message. `selection` is the mechanism's own: `type` (System V).

        EndOfStream when the peer sends no more; ProtocolError or MessageTooLarge for a bad frame. Cancelled: nothing was
        consumed.
        """

    @abstractmethod
    def receive_nowait(self, **selection: Any) -> bytes:
        """`receive`, or WouldBlock."""

    @abstractmethod
    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        """All messages that are there by now, at least one, at most `max_messages`. Cancelled: nothing was consumed."""

    @abstractmethod
    async def receive_message(self, **selection: Any) -> Message:
        """The next message with what the mechanism tells about it. Cancelled: nothing was consumed."""

    async def peek(self) -> bytes:
        """What the next `receive` is going to give, left there for it. UnsupportedOperation for queues and signals.

        Errors as `receive`. Cancelled: nothing was consumed.
        """
        raise UnsupportedOperation(f"{self!r}: what this mechanism has can't be looked at without taking it")

    @abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that no more will come; receiving goes on. UnsupportedOperation where there is no such signal."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close. Idempotent. What `send` returned from stays sent; cancelled, it closes all the same."""

    @abstractmethod
    def statistics(self) -> ChannelStatistics:
        """What went through so far."""


class StreamChannel(Channel):
    """A channel over a stream of bytes, framed by aipc: sockets, pipes, FIFOs, descriptors, and rings in shared memory."""

    @abstractmethod
    async def peek(self) -> bytes:
        """What the next `receive` is going to give, left there for it. Errors as `receive`. Cancelled: nothing was consumed."""


ChannelT_co = TypeVar("ChannelT_co", bound=Channel, default=Channel, covariant=True)


class Listener(Closing, TypedAttributeProvider, Generic[ChannelT_co]):
    """Accepts connections, each a Channel, or of the type that is in brackets: `Listener[RingChannel]`. `extra` tells the address that it has, as anyio's `SocketAttribute`, and more."""

    @abstractmethod
    async def accept(self) -> ChannelT_co:
        """The next connection. One that fails before it is accepted is skipped (accept(2)). Cancelled: none was taken."""

    @abstractmethod
    async def serve(self, handler: Callable[[ChannelT_co], Awaitable[object]]) -> None:
        """Run `handler(channel)` as a task for each connection, until cancelled, and close the channel when it ends.

        A handler's error ends its own connection only, and is logged (logger `aipc`); not so EndOfStream, by which a handler ends
        whose peer has left. A connection that fails before it is accepted is skipped (accept(2)); without a free descriptor it
        waits for one. Cancelled: all handlers are cancelled, and their channels closed, before it raises. After `drain` it
        returns, when the last handler has ended.
        """

    async def drain(self) -> None:
        """Stop listening, close the listener, and wait until the handlers of every `serve` have ended.

        Not from such a handler: it would wait for itself. How long is the caller's: cancelled, as by a timeout around it,
        those that still run are cancelled, too, and `serve` returns when they have ended.
        """
        raise UnsupportedOperation(f"{self!r} can't be drained")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChannelT_co:
        try:
            return await self.accept()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None


class Lock(ABC):
    """Excludes: at most one holder, among all tasks of all processes. `async with lock:` holds it for a block.

    Cancelled while waiting: not held, and nobody waits for it. Closing releases what is held. Errors of every method:
    ClosedResourceError after `aclose`, ObjectRemoved when the object is gone, ForkedError in a forked child.
    """

    @abstractmethod
    async def acquire(self) -> None:
        """Wait until the lock is ours. Cancelled: it is not."""

    @abstractmethod
    def acquire_nowait(self) -> None:
        """Take the lock, or WouldBlock."""

    @abstractmethod
    def release(self) -> None:
        """Give the lock back. RuntimeError if it is not held by this object."""

    @abstractmethod
    def locked(self) -> bool:
        """Whether anybody holds it now."""

    @abstractmethod
    def holder(self) -> int | None:
        """The holder's pid, where the kernel tells; None if it does not, or nobody holds it."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what is held and close. Idempotent, also under cancellation; waiting tasks see ClosedResourceError."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Semaphore(Lock):
    """Counts: up to so many holders, among all tasks of all processes."""

    @abstractmethod
    async def acquire(self, n: int = 1) -> None:
        """Wait until `n` can be taken off the value, and take them, all at once. Cancelled: none was."""

    @abstractmethod
    def acquire_nowait(self, n: int = 1) -> None:
        """Take `n` off the value, or WouldBlock."""

    @abstractmethod
    def release(self, n: int = 1) -> None:
        """Add `n` to the value. RuntimeError if this object holds fewer and the mechanism undoes a dead holder's takes."""

    @property
    @abstractmethod
    def value(self) -> int:
        """The value now."""

    @abstractmethod
    async def wait_zero(self) -> None:
        """Wait until the value is zero. Cancelled: nothing happened."""


class Segment(ABC):
    """Memory that processes share: `buf` is its bytes, `size` as asked. `with segment:` closes it.

    It has no synchronisation of its own: pair it with a lock (`locked`), or know who writes when. A forked child's copy shows
    the same memory, and is closed by itself. Errors of every method: ClosedResourceError after `close`.
    """

    @property
    @abstractmethod
    def buf(self) -> memoryview:
        """The shared bytes: one object until `close` or `resize`, which release it. `buf.cast("Q")` gives them types."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes, exactly as asked for when it was created, also after `close`."""

    @abstractmethod
    def resize(self, size: int) -> None:
        """Make it `size` bytes long; what it had stays, new bytes are zero. SegmentInUse while views are held.

        Others keep the length that they have mapped: to shrink what they use is SIGBUS for them. UnsupportedOperation where
        the kernel can't.
        """

    @abstractmethod
    async def flush(self, wait: bool = True) -> None:
        """Write changes to the file behind it, if there is one (msync(2)); without `wait`, only begin to.

        Runs in a thread, which a cancelled flush leaves to end by itself; nothing else is affected by that.
        """

    @abstractmethod
    def close(self) -> None:
        """Unmap it here; the memory stays for others. Idempotent.

        SegmentInUse while views of it are held here, such as slices and arrays of `buf` (not `buf` itself): it stays open and
        usable, only `buf` is a new object.
        """

    @abstractmethod
    def unlink(self) -> None:
        """Remove its name: the memory goes with its last user. Also after `close`. ObjectMissing if the name is gone."""

    @abstractmethod
    def locked(self) -> AbstractAsyncContextManager[memoryview]:
        """`async with segment.locked() as buf:` holds the `lock` given at opening; RuntimeError if there was none.

        Cancelled while waiting: not held.
        """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
