"""Classic record locks (fcntl(2), F_SETLK) belong to the process: here its objects exclude each other all the same.

They have two traps. The kernel sees no conflict within a process; so this table has each object's claim. And closing *any*
descriptor of a file drops all of the process's locks on it; so aipc's locks close their files here, and a descriptor of a file
with claims stays open until the last of them is given back. What else in the process closes the file is beyond us.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aipc._sys import byte_locks
from aipc._sys.byte_locks import Range


@dataclass(slots=True)
class _File:
    claims: dict[object, tuple[Range, bool]] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)


_files: dict[tuple[int, int], _File] = {}
os.register_at_fork(after_in_child=_files.clear)  # a child has none of its parent's locks


def _identity(fd: int) -> tuple[int, int]:
    file = os.fstat(fd)
    return file.st_dev, file.st_ino


def claimed(fd: int, owner: object, where: Range, *, shared: bool) -> bool:
    """Whether another object of this process has a claim that such a lock can't be beside."""
    file = _files.get(_identity(fd))
    claims = file.claims.items() if file else ()
    return any(
        other is not owner and there.overlaps(where) and not (shared and shared_there)
        for other, (there, shared_there) in claims
    )


def take(fd: int, owner: object, where: Range, *, shared: bool) -> None:
    """Lock for `owner`, or convert what it has. BlockingIOError while another object or process is in the way."""
    if claimed(fd, owner, where, shared=shared):
        raise BlockingIOError
    byte_locks.lock(fd, where, shared=shared, process=True)
    _files.setdefault(_identity(fd), _File()).claims[owner] = where, shared


def give_back(fd: int, owner: object) -> None:
    """Unlock what `owner` has, as far as no other object shares it."""
    identity = _identity(fd)
    file = _files[identity]
    where, _ = file.claims.pop(owner)
    for piece in _uncovered(where, (there for there, _ in file.claims.values())):
        byte_locks.unlock(fd, piece, process=True)
    if not file.claims:
        del _files[identity]
        for parked in file.parked:
            os.close(parked)


def _uncovered(where: Range, others: Iterable[Range]) -> Iterator[Range]:
    start = where.start
    for other in sorted(others):
        if start < min(other.start, where.end):
            yield Range(start, min(other.start, where.end))
        start = max(start, other.end)
    if start < where.end:
        yield Range(start, where.end)


def close_file(fd: int) -> None:
    """close(2), when it drops no lock of this process."""
    file = _files.get(_identity(fd)) if _files else None
    if file is None:
        os.close(fd)
    else:
        file.parked.append(fd)
