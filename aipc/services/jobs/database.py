"""One connection to a queue's database: transactions in turn, and the errors of a failed one."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from aipc._io.errors import os_error
from aipc.exceptions import WrongObject

from .files import QueueFiles
from .tables import Tables, prepare

Result = TypeVar("Result")

_CODES = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
_VACUUM_PAGES = 4096
_LONGEST_LOG = 32 * 1024
"""The size in KiB from which on the log is written back."""


class Database:
    """Used by the thread that opened it, or by others in its turn.

    `busy` is held while SQLite works: a fork(2) at such a moment would copy its locks.
    """

    def __init__(self, files: QueueFiles) -> None:
        self._files = files
        self._durable = False
        self.busy: Lock = Lock()
        with files.turn.taken(waits=True), self.busy:
            self._db = self._opened()

    def _opened(self) -> sqlite3.Connection:
        self._files.check()
        db = sqlite3.connect(self._files.path, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            if not prepare(db):
                raise WrongObject(errno.EINVAL, f"{self._files.url}: another program's database, or a later version's queue")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")  # it may take long: see `write_back`
        except BaseException:
            db.close()
            raise
        return db

    def be_durable(self, durable: bool) -> None:
        """With `durable`, sync each transaction from now on."""
        if durable and not self._durable:
            self._durable = True
            self._db.execute("PRAGMA synchronous = FULL")

    @property
    def synchronous(self) -> str:
        """When SQLite syncs: FULL is at each commit, NORMAL when the log is written back."""
        return "FULL" if self._durable else "NORMAL"

    def transact(
        self,
        work: Callable[[Tables], Result],
        *,
        waits: bool = True,
        begun: Callable[[], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> Result:
        """Do `work` in one transaction, in turn with other processes. Any error: nothing was done, and `failed` is called.

        `begun` is called when the turn has come, before anything else: so what it asks for meets the queue as it is afterwards.
        BlockingIOError: a program that takes no turns locks the database; or, without `waits`, another process has its turn.
        """
        with self._files.turn.taken(waits=waits), self.busy:
            if begun is not None:
                begun()
            self._files.check()
            self._begin()
            try:
                tables = Tables(self._db)
                result = work(tables)
                tables.finish()
                if tables.adds:
                    self._files.count_change()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if failed is not None:
                    failed()
                raise
            self._files.log += tables.kibibytes
            return result

    def _begin(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise BlockingIOError(errno.EAGAIN, "busy") from None
            raise

    def write_back(self) -> None:
        """If the log is long, write it back, and return some free space to the file system. It syncs: not on an event loop."""
        if self._files.log < _LONGEST_LOG:
            return
        with self._files.turn.taken(waits=True), self.busy:
            if self._files.log >= _LONGEST_LOG:
                self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._files.log = 0

    @property
    def log_is_long(self) -> bool:
        """Whether `write_back` has work to do."""
        return self._files.log >= _LONGEST_LOG

    def close(self, *, remove: bool) -> None:
        """Close it; the last process to do so writes back the log. `remove` the files, too."""
        with self._files.turn.taken(waits=True), self.busy:
            self._db.close()
            if remove:
                self._files.remove()


def explain(error: Exception, url: str) -> Exception:
    """Return the error that the user should see for an error of the database."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return WrongObject(errno.EINVAL, f"{url}: not a queue, or damaged ({error})")
    return os_error(_CODES.get(code, errno.EIO), url, str(error))
