"""This process's membership of the table: all its loops and threads share it, and it ends with the last user."""

from __future__ import annotations

import atexit
import errno
import os
from contextlib import suppress
from threading import RLock

from .. import probes
from .table import Column, WaiterTable


class Member:
    """A process, from one fork to the next."""

    def __init__(self) -> None:
        self._table: WaiterTable | None = None
        self._users = 0
        self._columns: set[Column] = set()
        self._lock = RLock()

    def enter(self) -> WaiterTable | None:
        """Return the table; None if there cannot be one. Each call needs a `leave`."""
        with self._lock:
            self._users += 1
            if self._users == 1 and probes.enabled("doorbell"):
                with suppress(OSError):  # without a table, waits poll
                    self._table = WaiterTable()
            return self._table

    def leave(self) -> None:
        """Remove one user."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._close()

    def claim(self) -> Column:
        """Claim a column of the table. OSError if none is free."""
        if self._table is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        column = self._table.claim()
        self._columns.add(column)
        return column

    def owns(self, column: Column) -> bool:
        """Whether the column was not given back yet."""
        return column in self._columns

    def give_back(self, column: Column) -> None:
        """Give back a column."""
        if self._table is not None and column in self._columns:
            self._columns.discard(column)
            self._table.give_back(column)

    def end(self) -> None:
        """Leave at the process's end: an object that was never closed must leave no files behind."""
        for column in tuple(self._columns):
            self.give_back(column)
        self._close()

    def _close(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.leave()
            table.forget_fifos()

    def forget(self) -> None:
        """Close everything in a forked child: it has its parent's descriptors and so its locks, which must end with the parent."""
        self._lock = RLock()  # another thread of the parent may have had it, and what the child inherits still leaves
        table, self._table = self._table, None
        if table is not None:
            table.forget()
        while self._columns:
            column = self._columns.pop()
            os.close(column.lock)
            os.close(column.fifo)


_member = Member()


def member() -> Member:
    """Return this process's membership."""
    return _member


def _forked() -> None:
    global _member  # noqa: PLW0603 - one process has one
    _member.forget()
    _member = Member()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _exiting() -> None:
    _member.end()
