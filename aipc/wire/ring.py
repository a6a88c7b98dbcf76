"""A ring of records in shared memory: one process produces, one consumes. No system call, no `await`.

Both directions of a channel stand in one piece of memory of `memory_size(capacity)` bytes, all numbers 8 bytes, native order:

| offset | what |
| --- | --- |
| 0 + 2048 * direction | `published`: bytes that the producer has made visible, since the beginning; never falls |
| + 128 | `consumed`: bytes that the consumer is through with |
| + 256 | `reader sleeps`: 0: no; 1: wake it once, and set this to 0 first; 2: wake it each time |
| + 384 | `writer sleeps`: likewise |
| + 512 | `ended`: 1 when no more will be published |
| + 640 | `registered`: 1 if the producer's process is within reach of membarrier(2) |
| 4096 + capacity * direction | the records |

The process that makes the memory sets all four `sleeps` to 2. Each end sets its own to 0 or 1 once it knows that barriers reach its peer.

A record stands at `position mod capacity`, a multiple of 8: a header of 8 bytes, the payload, and filler up to the next multiple
of 8. A record never wraps. The header is the payload's length, below 2^48, and two bits. Bit 63: a skip, nothing but filler up
to the ring's end. Bit 62: a part of a message; the payload's first 8 bytes say how much of the message there is from here on,
this part included, and the last part is a plain record.

The peer may be hostile and may write anything at any time: each number is read once, into a local name, and checked before use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from aipc._sys.native import native
from aipc.exceptions import ProtocolError

SMALLEST, LARGEST, DEFAULT = 4 * 1024, 1 << 30, 4 * 1024 * 1024
"""Capacities, bytes: a power of two."""

_PAGE = 4096
SKIP, PART, LENGTH = 1 << 63, 1 << 62, (1 << 48) - 1
HEADER = 8
_APART = 16  # words: two cache lines, because processors fetch them in pairs
CONTROLS = 256  # words of one direction's numbers
_AWAKE, _ONCE, ALWAYS = 0, 1, 2
_BLANK: Any = memoryview(bytes(_PAGE)).cast("Q")  # what new memory looks like


def memory_size(capacity: int) -> int:
    """Bytes of memory for both directions."""
    return _PAGE + 2 * capacity


def capacity_of(size: int) -> int:
    """The capacity that memory of this size is for. ProtocolError if there is none."""
    capacity = (size - _PAGE) // 2
    if not is_capacity(capacity) or memory_size(capacity) != size:
        raise ProtocolError(f"memory of {size:,} bytes does not hold two rings of a power of two, {SMALLEST:,} to {LARGEST:,}")
    return capacity


def is_capacity(capacity: int) -> bool:
    """Whether a ring may have so many bytes."""
    return SMALLEST <= capacity <= LARGEST and not capacity & (capacity - 1)


def prepare(words: memoryview) -> None:
    """Prepare new memory: neither end may rely on barriers yet."""
    for direction in (0, 1):
        for flag in (2, 3):
            words[direction * CONTROLS + flag * _APART] = ALWAYS


class Peer(Protocol):
    """How the two processes wake each other, and learn of each other's end."""

    @property
    def gone(self) -> bool:
        """Whether the peer is known to be gone."""

    def wake_peer(self) -> bool:
        """Wake the peer. False if that was not possible now; if it is not gone, that is tried again later."""

    def drain_doorbell(self) -> bool:
        """Whether the peer is gone; asked only when there is nothing to do but wait."""

    def meet(self) -> None:
        """Attach both ends to the memory that the peer offers. BlockingIOError: it has not offered any yet."""


class Barriers(Protocol):
    """How to order what two processors see (`_sys.membarrier`)."""

    @property
    def fence(self) -> Callable[[], None] | None:
        """Keeps this end's loads and stores in order; None where they are anyway."""

    @property
    def global_barrier(self) -> Callable[[], bool] | None:
        """A full barrier on all processors that run registered processes, False if it was refused; None if there is none."""


class Numbers:
    """The attributes of an end that C has to know: there, they are members of its own base class."""

    __slots__ = (
        "_base", "_capacity", "_consumed", "_mask", "_plain", "_published", "_reader_sleeps", "_room_until", "_words",
        "_writer_sleeps", "position",
    )  # fmt: skip


if native is not None and not TYPE_CHECKING:
    Numbers = native.RingEnd


class End(Numbers):
    """The common part of both ends of one direction. Before `attach` it has no messages and no room."""

    __slots__ = (
        "_asleep",
        "_direction",
        "_ended",
        "_fence",
        "_global_barrier",
        "_memory",
        "_peer",
        "_peer_registered",
        "_registered",
    )  # fmt: skip

    def __init__(self, direction: int, peer: Peer, barriers: Barriers) -> None:
        numbers = range(direction * CONTROLS, (direction + 1) * CONTROLS, _APART)
        self._published, self._consumed, self._reader_sleeps, self._writer_sleeps, self._ended, self._registered = numbers[:6]
        self._direction = direction
        self._peer_registered = self._registered
        self._asleep = self._reader_sleeps
        self._peer = peer
        self._fence = barriers.fence
        self._global_barrier = barriers.global_barrier
        self._memory: Any = None
        self._words: Any = _BLANK
        self._capacity = self._mask = self._base = 0
        self.position: int = 0
        """Bytes written or read since the beginning, headers and all."""

    def attach(self, memory: Any, words: memoryview) -> None:
        """Work in this memory from now on."""
        self._memory = memory
        self._words = words
        self._capacity = (words.nbytes - _PAGE) // 2
        self._mask = self._capacity - 1
        self._base = _PAGE + self._direction * self._capacity
        self.awake()

    def awake(self) -> None:
        """The peer need not wake this end: all its tasks look again. Only if barriers reach the peer; else it wakes each time."""
        self._words[self._asleep] = _AWAKE if self._reached() else ALWAYS

    def sleep(self) -> bool:
        """Ask the peer to wake this end, after a try in vain and before waiting. True if a try may succeed after all."""
        if self._memory is None:
            return False  # the peer's memory comes by the same way as its rings
        self._words[self._asleep] = _ONCE if self._reached() else ALWAYS
        if self._global_barrier is not None and not self._global_barrier():
            self._global_barrier = None  # forbidden since the process registered, as by seccomp(2)
            self._words[self._asleep] = ALWAYS
            return True  # look again a turn of the loop later: by then every processor sees the flag
        return self.watch(1)

    def watch(self, looks: int) -> bool:
        """Look so many times: True as soon as a try may succeed."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the memory. Any later use of this end is EBADF."""
        self._words = self._memory = _CLOSED

    def _reached(self) -> bool:
        return self._global_barrier is not None and self._words[self._peer_registered] != 0

    def _wake(self, flag: int) -> None:
        """Wake the peer, which has asked for it by this flag."""
        if self._words[flag] == _ONCE:
            self._words[flag] = _AWAKE
        if not self._peer.wake_peer():
            self._words[flag] = ALWAYS  # it may still sleep: the next change tries again


def in_c(end: type[End], *names: str) -> None:
    """Put C functions in place of these methods, if there are any. `_NAME` stays the Python one, which C calls in all but simple cases."""
    for name in names:
        setattr(end, f"_{name}", getattr(end, name))
        if native is not None:
            setattr(end, name, getattr(native.RingEnd, name))


class _Closed:
    """In place of memory that was unmapped."""

    def __getitem__(self, *_: object) -> NoReturn:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    __setitem__ = __getitem__


_CLOSED: Any = _Closed()
