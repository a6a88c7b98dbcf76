"""One worker for each queue that this process has open, and its handling of fork(2)."""

from __future__ import annotations

import os
from threading import Lock

from aipc._io import fork

from .files import QueueFiles
from .worker import Worker

_workers: dict[tuple[int, int], Worker] = {}
_lock = Lock()
_held: list[Lock] = []


def worker_of(files: QueueFiles, *, durable: bool, unlink: bool) -> Worker:
    """Return the queue's worker, for one more user; it owns `files`, or closes them."""
    with _lock:
        worker = _workers.get(files.identity)
        if worker is None:
            try:
                worker = _workers[files.identity] = Worker(files)
            except BaseException:
                files.close()
                raise
        else:
            files.close()
        worker.users += 1
        worker.durable |= durable
        worker.unlink |= unlink
        return worker


def leave(worker: Worker) -> bool:
    """Remove one user. True: it was the last one, and the worker ends."""
    with _lock:
        worker.users -= 1
        if worker.users:
            return False
        del _workers[worker.files.identity]
        worker.stop()
        return True


def _before_fork() -> None:
    """Let no transaction run: the child would have copies of SQLite's locks that are never released."""
    _lock.acquire()
    for worker in _workers.values():
        if worker.database is not None:
            worker.database.busy.acquire()
            _held.append(worker.database.busy)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _lock.release()


@fork.in_child
def _in_child() -> None:
    _after_fork()
    for worker in _workers.values():
        worker.files.turn.close()
    _workers.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
