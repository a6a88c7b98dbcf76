"""Doorbells: who provides an object wakes those who poll for it, in other processes of the same user and in this one.

While nobody waits, `notify` is a look at 64 bytes of memory. `_sys.bell_board` has the layout.
"""

from __future__ import annotations

import atexit
import errno
import logging
import mmap
import os
from contextlib import suppress
from threading import RLock
from typing import Protocol

from aipc._sys import probes
from aipc._sys.bell_board import NOBODY, ROWS, WAITERS, Board, Call, calls, tag_of

from .source import Source

_READ_SIZE = 64 * 1024
_UNSEEN = bytes([1]) * WAITERS
"""In place of the board, before the first look at it: somebody may wait."""
_logger = logging.getLogger("aipc")


class Subscriber(Protocol):
    """Something whose tasks wait for an object."""

    def on_notify(self, call: Call) -> bool:
        """The object may be available. True: a task was woken, and `pass_on(call)` follows if it could not use it."""


class _Shared:
    """This process's board, which all its doorbells and bells share, in all threads."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self.users = 0
        self.bells: set[DoorbellListener] = set()
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

    __slots__ = ("_board", "_end", "_last", "_memory", "_start", "row", "tag")

    def __init__(self, name: str) -> None:
        self.tag: int = tag_of(name)
        self.row: int = self.tag % ROWS
        self._board: Board | None = None
        self._memory: bytes | mmap.mmap = _UNSEEN
        self._start, self._end = 0, WAITERS
        self._last = 0

    def _enter(self) -> None:
        self._board = _shared.enter()
        self._memory = NOBODY
        if self._board is not None:
            self._memory = self._board.memory
            self._start = self.row * WAITERS
            self._end = self._start + WAITERS

    def notify(self, most: int = WAITERS) -> None:
        """Call `most` of the loops that wait for the object, in turn; one that has no use for the call passes it on."""
        if self._memory[self._start : self._end] == NOBODY:
            return
        if self._memory is _UNSEEN:
            self._enter()
        if self._board is not None:
            self._last = self._board.ring(self.tag, self._last, most)

    def others_wait(self) -> bool | None:
        """Whether another process waits for this object, or for one of the same row. None: no board, nobody knows."""
        if self._memory is _UNSEEN:
            self._enter()
        if self._board is None:
            return None
        line = bytearray(self._memory[self._start : self._end])
        for bell in tuple(_shared.bells):
            line[bell.waiter] = 0
        return any(line)

    def close(self) -> None:
        """Let go of the board. Nobody is called any more."""
        entered = self._memory is not _UNSEEN and self._end > 0
        self._board, self._memory, self._start, self._end = None, b"", 0, 0
        if entered:
            _shared.leave()


class DoorbellListener:
    """Where this loop is called. OSError if all columns of the board are taken, or there is no board."""

    __slots__ = ("_board", "_fifo", "_lock", "_source", "_subscribers", "waiter")

    def __init__(self) -> None:
        board = _shared.enter()
        try:
            if board is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self.waiter, self._lock, self._fifo = board.claim()
        except BaseException:
            _shared.leave()
            raise
        self._board = board
        self._subscribers: dict[int, dict[int, set[Subscriber]]] = {}  # by row, and by tag
        _shared.bells.add(self)
        try:
            self._source = Source(self._fifo, self._fired)
        except BaseException:
            self.give_back()
            _shared.leave()
            raise

    def listen(self, doorbell: Doorbell, subscriber: Subscriber) -> None:
        """Let `subscriber.on_notify` be called for the object, until `leave`."""
        self._subscribers.setdefault(doorbell.row, {}).setdefault(doorbell.tag, set()).add(subscriber)
        self.renew(doorbell)

    def renew(self, doorbell: Doorbell) -> None:
        """Show again that this loop waits for the object, whatever another process has stored in its place."""
        self._board.memory[doorbell.row * WAITERS + self.waiter] = 1

    def leave(self, doorbell: Doorbell, subscriber: Subscriber) -> None:
        """It does not listen any more."""
        tags = self._subscribers.get(doorbell.row, {})
        subscribers = tags.get(doorbell.tag, set())
        subscribers.discard(subscriber)
        if not subscribers:
            tags.pop(doorbell.tag, None)
        self._clear_if_unused(doorbell.row)

    def _clear_if_unused(self, row: int) -> None:
        if not self._subscribers.get(row):
            self._subscribers.pop(row, None)
            if self in _shared.bells:
                self._board.memory[row * WAITERS + self.waiter] = 0

    def _fired(self) -> None:
        try:
            found = calls(os.read(self._fifo, _READ_SIZE))
        except BlockingIOError:
            return
        for call in found:
            row = call.tag % ROWS
            subscribers = tuple(self._subscribers.get(row, {}).get(call.tag, ()))
            woken = [_told(subscriber, call) for subscriber in subscribers]
            self._clear_if_unused(row)
            if not any(woken):
                self.pass_on(call)

    def pass_on(self, call: Call) -> None:
        """Call the next loop behind this one that waits for an object of the row, up to `call.until`."""
        if self in _shared.bells:
            self._board.ring(call.tag, self.waiter, 1, call.until)

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


def _told(subscriber: Subscriber, call: Call) -> bool:
    try:
        return subscriber.on_notify(call)
    except Exception:
        _logger.exception("a waiter failed when its doorbell rang")
        return False
