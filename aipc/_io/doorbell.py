"""Doorbells: who provides an object wakes those who poll for it, in other processes of the same user and in this one.

While nobody waits, ringing is a look at 64 bytes of memory. `_sys.bell_board` has the layout.
"""

from __future__ import annotations

import atexit
import errno
import mmap
import os
from contextlib import suppress
from threading import RLock
from typing import Protocol

from aipc._sys import probes
from aipc._sys.bell_board import NOBODY, WAITERS, Board, calls, row_of

from .source import Source

_READ_SIZE = 64 * 1024
_UNSEEN = bytes([1]) * WAITERS
"""In place of the board, before the first ring: somebody may wait."""


class Waiter(Protocol):
    """Who waits for an object."""

    def rung(self) -> bool:
        """Perhaps it is there: whether somebody who waits for it was woken."""


class _Shared:
    """This process's board, which all its doorbells and bells share, in all threads."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self.users = 0
        self.bells: set[Bell] = set()
        self._lock = RLock()

    def enter(self) -> Board | None:
        with self._lock:
            self.users += 1
            if self.users == 1 and probes.enabled("doorbell"):
                with suppress(OSError):  # then the pauses have to do
                    self.board = Board()
            return self.board

    def leave(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users or self.board is None:
                return
            board, self.board = self.board, None
            board.leave()
            board.unmap()


_shared = _Shared()


def _forked() -> None:
    """A child has its parent's descriptors, and with them its locks: they are to end with the parent."""
    global _shared  # noqa: PLW0603 - one board a process
    if _shared.board is not None:
        _shared.board.forget()
    for bell in _shared.bells:
        bell.forget()
    _shared = _Shared()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _exiting() -> None:
    """What was never closed must not leave files behind."""
    board, _shared.board = _shared.board, None
    for bell in tuple(_shared.bells):
        bell.give_back()
    if board is not None:
        board.leave()


class Doorbell:
    """One object's."""

    __slots__ = ("_board", "_end", "_entered", "_last", "_memory", "_start", "row")

    def __init__(self, name: str) -> None:
        self.row: int = row_of(name)
        self._board: Board | None = None
        self._entered = False
        self._memory: bytes | mmap.mmap = _UNSEEN
        self._start, self._end = 0, WAITERS
        self._last = 0

    def _enter(self) -> None:
        self._entered = True
        self._board = _shared.enter()
        self._memory = NOBODY
        if self._board is not None:
            self._memory = self._board.memory
            self._start = self.row * WAITERS
            self._end = self._start + WAITERS

    def ring(self, most: int = WAITERS) -> None:
        """Wake `most` of those who wait for the object, in turn; one who has no use for it rings another."""
        if self._memory[self._start : self._end] == NOBODY:
            return
        if not self._entered:
            self._enter()
        if self._board is not None:
            self._last = self._board.ring(self.row, self._last, most)

    def heard(self, bell: Bell | None, wait: Waiter) -> bool | None:
        """Whether anybody but `wait`, which listens at `bell`, waits for the object; None if there is no board."""
        if not self._entered:
            self._enter()
        if self._board is None:
            return None
        line = bytearray(self._memory[self._start : self._end])
        if bell is not None:
            line[bell.waiter] = bell.others(self.row, wait)
        return any(line)

    def close(self) -> None:
        """Let go of the board."""
        if self._entered:
            self._entered, self._board = False, None
            self._memory, self._start, self._end = NOBODY, 0, WAITERS
            _shared.leave()


class Bell:
    """What rings in this loop. OSError if no more bells are to be had."""

    __slots__ = ("_board", "_fifo", "_lock", "_source", "_waits", "waiter")

    def __init__(self) -> None:
        board = _shared.enter()
        if board is None:
            _shared.leave()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            self.waiter, self._lock, self._fifo = board.claim()
        except BaseException:
            _shared.leave()
            raise
        self._board = board
        self._waits: dict[int, set[Waiter]] = {}
        _shared.bells.add(self)
        try:
            self._source = Source(self._fifo, self._fired)
        except BaseException:
            self.give_back()
            _shared.leave()
            raise

    def listen(self, row: int, wait: Waiter) -> None:
        """Let `wait.rung()` be called when the row is rung, until `leave`."""
        self._waits.setdefault(row, set()).add(wait)
        self.renew(row)

    def renew(self, row: int) -> None:
        """Somebody listens to that row, whatever another process has stored in its place."""
        self._board.memory[row * WAITERS + self.waiter] = 1

    def others(self, row: int, wait: Waiter) -> bool:
        """Whether another wait of this loop listens to that row."""
        return bool(self._waits.get(row, set()) - {wait})

    def leave(self, row: int, wait: Waiter) -> None:
        """It does not listen any more."""
        waits = self._waits.get(row, set())
        waits.discard(wait)
        if not waits:
            self._waits.pop(row, None)
            if self in _shared.bells:
                self._board.memory[row * WAITERS + self.waiter] = 0

    def _fired(self) -> None:
        try:
            found = calls(os.read(self._fifo, _READ_SIZE))
        except BlockingIOError:
            return
        for row, until in found:
            woken = [wait.rung() for wait in tuple(self._waits.get(row, ()))]
            if row not in self._waits:
                self._board.memory[row * WAITERS + self.waiter] = 0
            if not any(woken):
                self._board.ring(row, self.waiter, 1, until)

    def close(self) -> None:
        """Let go of the column and the board. The loop may be over."""
        self._source.close()
        self.give_back()
        _shared.leave()

    def give_back(self) -> None:
        """Let go of the column."""
        if self in _shared.bells:
            _shared.bells.discard(self)
            self._board.give_back(self.waiter, self._lock, self._fifo)

    def forget(self) -> None:
        """In a forked child."""
        os.close(self._lock)
        os.close(self._fifo)
