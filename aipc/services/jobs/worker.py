"""The one thread of a process that has a queue's database: it serves the requests of all tasks, many in one transaction.

It sleeps until a request comes, another process calls it by the doorbell, a process with leases ends, or a delay is over. A poll
every tenth of a second finds changes without a call: by other users' processes, or by a process that was killed before its call.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue
from aipc._sys.doorbell.table import Call
from aipc._sys.signals.mask import blocked_signals
from aipc._sys.signals.numbers import VALID
from aipc.exceptions import AipcError

from .ahead import Ahead
from .database import Database, explain
from .files import QueueFiles
from .inbox import Inbox
from .owners import Owners
from .requests import Request, Step
from .serving import Served, serve
from .tables import Tables
from .thread_doorbell import ALL, ThreadDoorbell

_logger = logging.getLogger("aipc")
IN, OUT = 0, 1
_LOOK = 0.1
_BUSY = 0.005


class Worker:
    """One queue's thread. `users` counts the channels that have it."""

    def __init__(self, files: QueueFiles) -> None:
        self.files: QueueFiles = files
        self.inbox: Inbox = Inbox()
        self.users: int = 0
        self.durable: bool = False
        self.unlink: bool = False
        self.database: Database | None = None
        self.asking: int = 0
        """The number of tasks that wait for an answer."""
        self._kept: set[Ahead] = set()
        self._next_look = 0.0
        self._session: _Session | None = None
        self.ended: bool = False
        self._waiting_for_end: list[tuple[object, WaitQueue]] = []
        self._stopping = False
        self._asleep = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"aipc {files.url}", daemon=True)
        with blocked_signals(*VALID):  # the thread inherits the mask: other threads get the signals
            self._thread.start()

    # Called by other threads

    def submit(self, request: Request[Any]) -> None:
        """Queue a request. It is carried out even if nobody waits for it, unless it is withdrawn."""
        self.inbox.submit(request)
        self.wake()

    def serve_now(self, request: Request[Any]) -> bool:
        """Serve it in this thread, in half the time; True if that was possible at once. Not for many requests, or if it must sync."""
        session = self._session
        if session is None or self.durable or self.inbox.waits or self.inbox.has_steps or _looks(request):
            return False
        if not session.serve_now(request):
            return False
        if session.log_is_long:
            self.wake()
        return True

    def stop(self) -> None:
        """Serve the queued steps, and end."""
        self._stopping = True
        self.wake()

    async def wait_ended(self) -> None:
        """Wait until the thread has closed everything. Cancelled: the thread still ends."""
        queue = WaitQueue()
        self._waiting_for_end.append((backend.current(), queue))
        if not self.ended:
            await queue.queue()

    def wake(self) -> None:
        """Let the thread see what there is to do."""
        if self._asleep:
            with suppress(OSError):  # the thread is ending and has closed it
                os.eventfd_write(self._wake_fd, 1)

    def keep(self, ahead: Ahead) -> None:
        """Give back what it keeps, if neither its loop does that nor a task asks for it."""
        if ahead not in self._kept:
            if not self._kept:
                self._next_look = monotonic() + _LOOK
            self._kept.add(ahead)
            self.wake()

    # The thread

    def look_at_kept(self) -> None:
        """Let jobs that were leased ahead go, if it is time."""
        if not self._kept or monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK
        for ahead in tuple(self._kept):
            ahead.look()
            self._kept.discard(ahead)
            if ahead:  # asked after it was discarded: another thread adds a job, and then looks whether it is known here
                self._kept.add(ahead)

    def _run(self) -> None:
        try:
            database = Database(self.files)
        except Exception as error:  # noqa: BLE001 - raised by each request
            self._refuse(error)
        else:
            self.database = database
            session = self._session = _Session(self, database)
            session.run()
            self._session = self.database = None
        self.files.close()
        os.close(self._wake_fd)
        self.ended = True
        for loop, queue in self._waiting_for_end:
            backend.call_from_thread(loop, queue.wake)

    def _refuse(self, error: Exception) -> None:
        explained = explain(error, self.files.url)
        while not self._stopping:
            self.inbox.fail_all(explained)
            self.sleep(select.poll(), None)

    def sleep(self, poll: select.poll, seconds: float | None) -> list[int]:
        """Sleep until there are requests, for at most `seconds`; return the descriptors of `poll` that are ready."""
        self._asleep = True
        try:
            if self.inbox.fresh or self._stopping:
                seconds = 0
            elif self._kept:
                left = self._next_look - monotonic()
                seconds = left if seconds is None else min(seconds, left)
            poll.register(self._wake_fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(None if seconds is None else max(seconds, 0) * 1000)]
        finally:
            self._asleep = False
        if self._wake_fd in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        return ready

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called and no step is queued."""
        return self._stopping and not self.inbox.has_steps


class _Session:
    """The thread's state while the database is open."""

    def __init__(self, worker: Worker, database: Database) -> None:
        self._worker = worker
        self._inbox = worker.inbox
        self._files = worker.files
        self._database = database
        self._owners = Owners()
        device, inode = worker.files.identity
        self._doorbell = ThreadDoorbell(f"jobs {device} {inode} in", f"jobs {device} {inode} out")
        self._calls: list[tuple[int, Call]] = []
        self._seen = -1  # changes
        self._seen_owners = -1
        self._new_owner = False
        self._due: float | None = None
        self._poll = self._descriptors()

    def run(self) -> None:
        """Serve until the worker stops; close everything."""
        while not self._worker.stopping:
            try:
                self._worker.look_at_kept()
                if self._inbox.fresh or self._something_came():
                    self._serve()
                self._database.write_back()
            except sqlite3.Error:
                continue  # such as a full disk: the next request reports it
            except Exception as error:
                _logger.exception("%s: the thread of a job queue failed", self._files.url)
                self._inbox.fail_all(OSError(errno.EIO, f"{self._files.url}: {error!r}"))
        self._inbox.fail_all(anyio.ClosedResourceError(f"{self._files.url}: closed"))
        with suppress(Exception):  # closing goes on: others see that this process has ended
            self._database.transact(self._owners.leave)
            self._doorbell.notify(IN, ALL)
        self._owners.close()
        self._doorbell.close()
        with suppress(sqlite3.Error, OSError):
            self._database.close(remove=self._worker.unlink)

    def _something_came(self) -> bool:
        waits = self._inbox.waits
        if self._mark(waits):
            return True
        ready = self._worker.sleep(self._poll, self._patience(waits))
        self._calls += self._doorbell.take_calls() if self._doorbell.fd in ready else []
        if not waits:
            self._notify(Served())
            return False
        return bool(self._calls) or self._owners_ended(ready) or self._changed()

    def _mark(self, waits: bool) -> bool:
        """Show other processes whether requests wait here. True: they did not know before, so one more try is needed."""
        marked = [self._doorbell.wait_for(index, waits) for index in (IN, OUT)]
        return any(marked)

    def _patience(self, waits: bool) -> float | None:
        if not waits:
            return None
        return _LOOK if self._due is None else min(_LOOK, self._due - time())

    def _owners_ended(self, ready: list[int]) -> bool:
        ended = any(fd in ready for fd in self._owners.pidfds.values())
        if ended:
            self._seen_owners = -1
        return ended

    def _changed(self) -> bool:
        if self._due is not None and self._due <= time():
            return True
        return self._files.changes != self._seen or self._files.owners != self._seen_owners

    def _serve(self) -> None:
        self._database.be_durable(self._worker.durable)
        try:
            self._transact(self._inbox.batch)
        except sqlite3.Error:
            for request in self._inbox.batch():  # a transaction for each shows which one fails
                self._serve_one(request)

    def serve_now(self, request: Request[Any]) -> bool:
        """Serve it in another thread, if that is possible now. The session's own thread handles errors."""
        try:
            served = self._carry_out([request], here=False)
        except (OSError, sqlite3.Error, AipcError):
            request.reset()
            return False
        self._tell(served)
        if self._inbox.waits:  # another loop of this process asked meanwhile
            self._inbox.fresh = True
            self._worker.wake()
        return bool(served.requests)

    @property
    def log_is_long(self) -> bool:
        """Whether the thread must write back the log."""
        return self._database.log_is_long

    def _serve_one(self, request: Request[Any]) -> None:
        try:
            self._transact(lambda: [request])
        except sqlite3.Error as error:
            self._inbox.fail(request, explain(error, self._files.url))

    def _transact(self, batch: Callable[[], list[Request[Any]]]) -> None:
        """One transaction for those requests of `batch` that are still there when the turn has come."""
        claimed: list[Request[Any]] = []

        def claim() -> None:
            claimed.extend(self._inbox.claim(batch()))

        try:
            served = self._carry_out(claimed, here=True, begun=claim)
        except BlockingIOError:
            self._inbox.unclaim(claimed)
            self._worker.sleep(select.poll(), _BUSY)
            self._inbox.fresh = True
        except sqlite3.Error:
            self._inbox.unclaim(claimed)
            raise
        except Exception as error:  # noqa: BLE001 - such as ObjectRemoved: it affects all
            self._inbox.unclaim(claimed)
            self._inbox.fail_all(error)
        else:
            self._inbox.settle(claimed, served.requests)
            self._notify(served)

    def _carry_out(self, claimed: list[Request[Any]], *, here: bool, begun: Callable[[], None] | None = None) -> Served:
        """One transaction; `here`: in the queue's thread, the only one that looks for owners that have ended."""
        return self._database.transact(
            lambda tables: self._work(tables, claimed, here), waits=here, begun=begun, failed=self._failed
        )

    def _work(self, tables: Tables, claimed: list[Request[Any]], here: bool) -> Served:
        self._new_owner = False
        if here and (self._files.owners != self._seen_owners or any(map(_looks, claimed))):
            self._seen_owners = self._files.owners
            self._owners.remove_ended(tables)
            self._poll = self._descriptors()
        served = serve(tables, claimed, lambda: self._number(tables), removes=not here)
        if here:
            self._seen = self._files.changes + tables.adds
            self._due = tables.due
        return served

    def _number(self, tables: Tables) -> int:
        """This process's number as an owner."""
        if not self._owners.registered:
            self._new_owner = True
            self._files.count_owner()
        return self._owners.own(tables)

    def _failed(self) -> None:
        """Nothing of the transaction was done."""
        self._seen_owners = -1
        if self._new_owner:
            self._owners.forget()

    def _descriptors(self) -> select.poll:
        poll = select.poll()
        for fd in (self._doorbell.fd, *self._owners.pidfds.values()):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        return poll

    def _notify(self, served: Served) -> None:
        calls, self._calls = self._calls, []
        for index, call in calls:
            if not (served.took, served.put)[index]:
                self._doorbell.pass_on(call)
        self._tell(served)

    def _tell(self, served: Served) -> None:
        self._doorbell.notify(IN, ALL if served.all_look else served.readied)
        self._doorbell.notify(OUT, served.room)


def _looks(request: Request[Any]) -> bool:
    return isinstance(request, Step) and request.looks
