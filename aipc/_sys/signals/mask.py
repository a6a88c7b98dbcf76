"""The signals that this thread blocks (pthread_sigmask(3)), with their owners, and the dispositions of unblocked signals.

Several owners may block the same signal. The last owner unblocks it, unless it was blocked before the first one came.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aipc.exceptions import UnsupportedOperation

from ..libc import libc
from .numbers import VALID, name_of

libc.signal.restype = ctypes.c_void_p
libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_SIG_IGN = 1

_owners: Counter[tuple[int, int]] = Counter()
"""The number of owners of each (thread, signal)."""
_ours: set[tuple[int, int]] = set()
"""The signals that were not blocked before their first owner."""


def block(signals: Iterable[int]) -> None:
    """Block the signals in this thread, for one more owner."""
    thread = threading.get_ident()
    chosen = set(signals)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, chosen)
    for signum in chosen:
        if not _owners[thread, signum] and signum not in before:
            _ours.add((thread, signum))
        _owners[thread, signum] += 1


def unblock(signals: Iterable[int], *, discard: bool = False) -> None:
    """Remove one owner. Signals that become unblocked and are pending take effect now; with `discard` they are dropped.

    SIGCHLD is never dropped: ignoring it even briefly would let the kernel reap children (wait(2)). It does no harm.
    """
    thread = threading.get_ident()
    freed = set()
    for signum in set(signals):
        _owners[thread, signum] -= 1
        if not _owners[thread, signum]:
            del _owners[thread, signum]
            if (thread, signum) in _ours:
                _ours.remove((thread, signum))
                freed.add(signum)
    if discard:
        for signum in freed - {signal.SIGCHLD}:
            Disposition(signum).drop_pending()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, freed)


@contextmanager
def blocked_signals(*signals: int) -> Iterator[None]:
    """Keep signals from this thread during a block of code: signals that come meanwhile are delivered at its end.

    A standard signal that comes several times is delivered once. A plain `with`, for a few statements without an await: it affects
    everything that the thread runs, and threads and processes that it starts inherit the mask. A signal to the process goes to
    another thread that does not block it, and Python then still runs its handler in the main thread. Blocks may be nested.
    ValueError for an invalid signal.
    """
    for signum in signals:
        if signum not in VALID:
            raise ValueError(f"{signum}: no such signal")
    block(signals)
    try:
        yield
    finally:
        unblock(signals)


def child_mask() -> set[int]:
    """Return the mask for a new child: this thread's, without the signals that a receiver has blocked here.

    `os.posix_spawn(..., setsigmask=child_mask())`. Unblocking in the parent around a fork would deliver pending signals.
    """
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ())) - {signum for _, signum in _ours}


def blocks_here() -> bool:
    """Whether a child needs `clean_child`."""
    return bool(_ours)


def clean_child() -> None:
    """A `preexec_fn` for subprocess, which resets dispositions but never the mask. It makes system calls only: safe in a forked child."""
    signal.pthread_sigmask(signal.SIG_SETMASK, child_mask())


def only_ending_threads(signals: frozenset[int]) -> bool:
    """Whether the threads that do not block them are all unknown to Python: a thread that was just joined may still be ending."""
    open_to = _threads_open_to(signals)
    return bool(open_to) and open_to.keys().isdisjoint(thread.native_id or 0 for thread in threading.enumerate())


def check_other_threads(signals: frozenset[int]) -> None:
    """UnsupportedOperation if another thread does not block them: the kernel could interrupt that thread instead (signal(7))."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for tid, some in _threads_open_to(signals).items():
        raise UnsupportedOperation(
            f"thread {tid} ({names.get(tid, 'not of Python')}) does not block {', '.join(map(name_of, some))}, and would be "
            "interrupted instead of this one: open the receiver, or block the signals (signal.pthread_sigmask), before any thread "
            "starts"
        )


def _threads_open_to(signals: frozenset[int]) -> dict[int, list[int]]:
    """Return the other threads of this process that do not block all of the signals, with the unblocked ones."""
    mine = threading.get_native_id()
    found = {}
    for task in Path("/proc/self/task").iterdir():
        blocked = _blocked_in(task)
        some = [signum for signum in sorted(signals) if not blocked >> (signum - 1) & 1]
        if some and int(task.name) != mine:
            found[int(task.name)] = some
    return found


def _blocked_in(task: Path) -> int:
    try:
        status = (task / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return -1  # the thread has ended
    return int(status.partition("SigBlk:")[2].split(None, 1)[0], 16)


class Disposition:
    """What a signal now does to this process, for Python and for the kernel (sigaction(2)), to be restored later."""

    __slots__ = ("_action", "_signum", "handler")

    def __init__(self, signum: int) -> None:
        self._signum = signum
        self.handler = signal.getsignal(signum)
        self._action = ctypes.create_string_buffer(256)  # struct sigaction, which is smaller
        libc.sigaction(signum, None, self._action)

    def restore(self) -> None:
        """Restore it, with flags and handlers of C libraries. In the main thread only."""
        signal.signal(self._signum, signal.SIG_DFL if self.handler is None else self.handler)
        self._restore_action()

    def drop_pending(self) -> None:
        """Drop a pending signal, blocked or not, by ignoring it (sigaction(2))."""
        libc.signal(self._signum, _SIG_IGN)
        self._restore_action()

    def _restore_action(self) -> None:
        libc.sigaction(self._signum, self._action, None)
