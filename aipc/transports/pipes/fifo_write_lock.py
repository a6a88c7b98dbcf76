"""The lock of a FIFO's writers: whole messages into a FIFO that many processes have open.

The kernel writes up to PIPE_BUF bytes in one piece. Between the pieces of a longer message any writer may get the room (pipe(7)).
So all of aipc's writers hold a flock(2) of the FIFO while they write: shared for a message in one piece, so that short messages
do not exclude each other; exclusive from the first byte of a longer message to its last. The lock belongs to the open file
description, and ends with its process.
"""

from __future__ import annotations

import errno
import os
import select
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from typing import ClassVar

import anyio

from aipc._io.handle import FileHandle
from aipc._io.polling import Polling
from aipc._sys import pipes


class FifoWriteLock(Polling):
    """One channel's hold on the lock: by any number of its tasks for short messages, or by one for a longer one.

    `room` waits, under the lock, for room for a message that may go in one piece.
    """

    PIECE: ClassVar[int] = select.PIPE_BUF
    """Bytes that the kernel writes all at once or not at all."""
    PATIENCE: ClassVar[float] = 10e-3
    """Seconds to wait for enough room to write a long message in one piece, too.

    If a writer is killed between two pieces, the first one stays for ever. Waiting makes that rare.
    """

    __slots__ = ("_exclusive", "_fd", "_shared", "room")

    def __init__(self, owner: FileHandle) -> None:
        super().__init__(owner, lambda: not self._exclusive)
        self._fd = owner.fd
        self._exclusive = False
        self._shared = 0
        self.room: Polling = Polling(owner)

    def acquire_nowait(self, size: int) -> None:
        """Hold the lock to write `size` bytes. BlockingIOError while another writer has it, BrokenPipeError if nobody reads."""
        self.owner.check()
        short = size <= self.PIECE
        if self._exclusive or (self._shared and not short):
            raise BlockingIOError
        if not self._shared:
            self._lock(LOCK_SH if short else LOCK_EX)
        self._shared += short
        self._exclusive = not short

    def _lock(self, kind: int) -> None:
        try:
            flock(self._fd, kind | LOCK_NB)
        except BlockingIOError:
            if pipes.events(self._fd) & select.POLLERR:  # the lock's holder also waits for a reader
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            raise

    def release(self) -> None:
        """End one message. Nothing after `close`, which has released the lock."""
        if self._fd < 0:
            return
        self._shared -= not self._exclusive
        self._exclusive = False
        if not self._shared:
            flock(self._fd, LOCK_UN)
        self.notify()

    async def wait_for_room(self, size: int) -> None:
        """Wait, but not for long, for room for a message that can go in one piece."""
        if not self.has_room(size):
            with anyio.move_on_after(self.PATIENCE):
                await self.room.attempt(self._expect_room, size)

    def _expect_room(self, size: int) -> None:
        if not self.has_room(size):
            raise BlockingIOError

    def has_room(self, size: int) -> bool:
        """Whether to begin writing: the message fits at once, or is too long to fit ever."""
        if size <= self.PIECE:
            return True
        half = pipes.capacity(self._fd) // 2  # the pages of a pipe are at least about half full
        return size > half or pipes.unread(self._fd) + size <= half

    def close(self) -> None:
        """Stop waiting, and release the lock: a forked child's copy of the descriptor would keep it."""
        super().close()
        self.room.close()
        fd, self._fd = self._fd, -1
        if fd >= 0 and (self._exclusive or self._shared):
            flock(fd, LOCK_UN)


class FifoWriterHandle(FileHandle):
    """Owns a descriptor of a FIFO that several processes write to."""

    __slots__ = ("write_lock",)

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, name)
        self.write_lock: FifoWriteLock = FifoWriteLock(self)

    def _close(self) -> None:
        self.write_lock.close()
        super()._close()
