"""This process on the board: all its loops and threads share one membership, which ends with the last that needs it."""

from __future__ import annotations

import atexit
import errno
import os
from contextlib import suppress
from threading import RLock

from .. import probes
from .table import Column, WaiterTable


class Member:
    """A process, between two forks."""

    def __init__(self) -> None:
        self._board: WaiterTable | None = None
        self._users = 0
        self._columns: set[Column] = set()
        self._lock = RLock()

    def enter(self) -> WaiterTable | None:
        """The board, None if there can't be one. Each call needs a `leave`."""
        with self._lock:
            self._users += 1
            if self._users == 1 and probes.enabled("doorbell"):
                with suppress(OSError):  # then the pauses have to do
                    self._board = WaiterTable()
            return self._board

    def leave(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._close()

    def claim(self) -> Column:
        """A column of the board. OSError if there is none."""
        if self._board is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        column = self._board.claim()
        self._columns.add(column)
        return column

    def owns(self, column: Column) -> bool:
        """Whether it was not given back yet."""
        return column in self._columns

    def give_back(self, column: Column) -> None:
        """Let go of a column."""
        if self._board is not None and column in self._columns:
            self._columns.discard(column)
            self._board.give_back(column)

    def end(self) -> None:
        """At the process's end: what was never closed must not leave files behind."""
        for column in tuple(self._columns):
            self.give_back(column)
        self._close()

    def _close(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            board.leave()
            board.forget_fifos()

    def forget(self) -> None:
        """In a forked child: it has its parent's descriptors, and with them its locks, which are to end with the parent."""
        board, self._board = self._board, None
        if board is not None:
            board.forget()
        while self._columns:
            column = self._columns.pop()
            os.close(column.lock)
            os.close(column.fifo)


_member = Member()


def member() -> Member:
    """This process."""
    return _member


def _forked() -> None:
    global _member  # noqa: PLW0603 - one process has one
    _member.forget()
    _member = Member()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _exiting() -> None:
    _member.end()
