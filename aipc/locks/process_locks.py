"""Classic record locks (fcntl(2), F_SETLK) belong to the process. Here two objects of one process exclude each other, too.

These locks have two traps. First, the kernel sees no conflict within a process, not even between threads; so this table holds each
object's claim. Second, closing *any* descriptor of a file drops all of the process's locks on that file; so aipc closes the files
of its locks and segments here, and a descriptor of a file with claims stays open until the last claim is given back. aipc cannot
control other code of the process that closes the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import RLock

from aipc._sys import byte_locks
from aipc._sys.byte_locks import Conflict, Range


@dataclass(slots=True)
class _File:
    claims: dict[object, tuple[Range, bool]] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)


_files: dict[tuple[int, int], _File] = {}
_lock = RLock()
"""Held while the table and the kernel change together. Reentrant: the garbage collector may close a file at any moment."""


def _forked() -> None:
    """Start afresh in a child: it has none of its parent's locks, and a thread that it lacks may have held the table's lock."""
    global _lock  # noqa: PLW0603 - one table a process
    _lock = RLock()
    files = tuple(_files.values())
    _files.clear()
    for file in files:
        _close(file.parked)


os.register_at_fork(after_in_child=_forked)


def _identity(fd: int) -> tuple[int, int]:
    file = os.fstat(fd)
    return file.st_dev, file.st_ino


def claimed(fd: int, owner: object, where: Range, *, shared: bool) -> Conflict | None:
    """The claim of another object of this process that such a lock can't be beside."""
    with _lock:
        file = _files.get(_identity(fd))
        claims = file.claims.items() if file else ()
        return next(
            (
                Conflict(os.getpid(), shared_there, there)
                for other, (there, shared_there) in claims
                if other is not owner and there.overlaps(where) and not (shared and shared_there)
            ),
            None,
        )


def take(fd: int, owner: object, where: Range, *, shared: bool) -> None:
    """Lock for `owner`, or convert its lock. BlockingIOError while another object or process holds a conflicting lock."""
    with _lock:
        if claimed(fd, owner, where, shared=shared):
            raise BlockingIOError
        identity = _identity(fd)
        file = _files.setdefault(identity, _File())
        before = file.claims.get(owner)
        file.claims[owner] = where, shared  # first: under the kernel's lock no descriptor of the file may be closed
        try:
            byte_locks.lock(fd, where, shared=shared, process=True)
        except BaseException:
            if before is not None:
                file.claims[owner] = before
            else:
                del file.claims[owner]
                _settle(identity, file)
            raise


def give_back(fd: int, owner: object) -> None:
    """Unlock the range of `owner`, except where another object shares it. After an OSError the kernel may keep it until the close."""
    with _lock:
        identity = _identity(fd)
        file = _files[identity]
        where, _ = file.claims.pop(owner)
        try:
            for piece in _uncovered(where, (there for there, _ in file.claims.values())):
                byte_locks.unlock(fd, piece, process=True)
        finally:
            _settle(identity, file)


def _settle(identity: tuple[int, int], file: _File) -> None:
    """Close the descriptors that waited for the last claim."""
    if not file.claims:
        del _files[identity]
        _close(file.parked)


def _close(parked: Iterable[int]) -> None:
    for fd in parked:
        with suppress(OSError):  # a late write error of NFS (close(2)): its caller has gone
            os.close(fd)


def _uncovered(where: Range, others: Iterable[Range]) -> Iterator[Range]:
    start = where.start
    for other in sorted(others):
        if start < min(other.start, where.end):
            yield Range(start, min(other.start, where.end))
        start = max(start, other.end)
    if start < where.end:
        yield Range(start, where.end)


def close_file(fd: int) -> None:
    """close(2), postponed until it drops no lock of this process."""
    with _lock:
        file = _files.get(_identity(fd)) if _files else None
        if file is None:
            os.close(fd)
        else:
            file.parked.append(fd)
