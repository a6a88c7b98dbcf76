"""Writing where others write, too: whole messages into a FIFO that many processes have open.

The kernel writes up to PIPE_BUF bytes in one piece, and leaves the room between the pieces of a longer message to whoever comes
first (pipe(7)). So all of aipc's writers hold a flock(2) of the FIFO while they write: shared for what goes in one piece, so
that short messages do not exclude each other, exclusive from the first byte of a longer one to its last. The lock belongs to
the open file description, and dies with its process.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Awaitable
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from time import monotonic
from typing import ClassVar, NoReturn

from aipc._sys import pipes

from .handle import FileHandle
from .polling import Polling
from .readiness import Direction, Readiness

_SHARED, _ALONE = LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB


class Turn(Readiness):
    """Waits to write: by polling while another has the lock, and by readiness for room."""

    PIECE: ClassVar[int] = select.PIPE_BUF
    """Bytes that the kernel writes wholly or not at all."""
    PATIENCE: ClassVar[float] = 10e-3
    """Seconds to wait, without the lock, for so much room that a long message goes in one piece, too.

    A writer killed between two pieces would leave the first one for ever, and others could not write between them.
    """

    __slots__ = ("_by_clock", "_crowded_since", "_handle", "_polling", "_size", "holds")

    def __init__(self, owner: FileHandle, fd: int) -> None:
        super().__init__(owner, fd, Direction.WRITE)
        self.holds: bool = False
        self._handle = owner
        self._polling = Polling(owner, self._hopeful)
        self._by_clock = False
        self._crowded_since = 0.0
        self._size = 0

    def take(self, size: int) -> None:
        """Begin to write `size` bytes. BlockingIOError while it is another's turn, BrokenPipeError if nobody reads."""
        if self._handle.closed:
            self._handle.check()
        short = size <= self.PIECE
        try:
            flock(self._fd, _SHARED if short else _ALONE)
        except BlockingIOError:
            if pipes.events(self._fd) & select.POLLERR:  # whoever has the lock waits for a reader, too
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            self._refuse(size)
        self.holds = True
        if not short and not self._fits(size):
            self.give()
            self._refuse(size)
        self._by_clock = False

    def _refuse(self, size: int) -> NoReturn:
        self._size = size
        if not self._by_clock:
            self._by_clock = True
            self._polling._begin()
        raise BlockingIOError

    def give(self) -> None:
        """Let others write."""
        if self.holds:
            self.holds = False
            flock(self._fd, LOCK_UN)

    def _fits(self, size: int) -> bool:
        """Whether to begin: all of it will go at once, or that is not to be had."""
        half = pipes.capacity(self._fd) // 2  # pages in a pipe are about half full, or fuller
        if not self.PIECE < size <= half or pipes.unread(self._fd) + size <= half:
            self._crowded_since = 0.0
            return True
        if not self._crowded_since:
            self._crowded_since = monotonic()
        return monotonic() - self._crowded_since > self.PATIENCE

    def _hopeful(self) -> bool:
        if self.holds:  # another task of this channel
            return True
        try:
            flock(self._fd, _SHARED)
        except BlockingIOError:
            return bool(pipes.events(self._fd) & select.POLLERR)
        flock(self._fd, LOCK_UN)
        return self._fits(self._size)

    def _begin(self) -> None:
        self._polling._begin()

    def _park(self) -> Awaitable[None]:
        return self._polling._park() if self._by_clock else super()._park()

    def close(self) -> None:
        """Leave the loop, and let go: a forked child's copy of the descriptor would keep the lock."""
        super().close()
        self._polling.close()
        self.give()


class TurnHandle(FileHandle):
    """Owns a descriptor that several processes write to."""

    __slots__ = ()

    @property
    def writable(self) -> Turn:
        """Waits for a turn to write."""
        if not isinstance(self._writable, Turn):
            self._writable = Turn(self, self.fd)
        return self._writable
