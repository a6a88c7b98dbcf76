"""Signals, received and sent (signal(7), signalfd(2), sigqueue(3)).

A standard signal (1 to 31) is a flag: receiving it means that it was sent at least once since the last time. Real-time signals
queue, each with its sender and value, but only `details=True` shows them.
"""

from __future__ import annotations

import os
import signal
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Self

import anyio

from aipc._io import fork
from aipc._io.errors import os_error
from aipc._io.handle import FileHandle
from aipc._io.loop import backend
from aipc._io.loop import signals as loop_signals
from aipc._io.loop.wait_queue import WaitQueue
from aipc._sys.signals import mask as signal_mask
from aipc._sys.signals import signalfd
from aipc._sys.signals.numbers import REALTIME, VALID, name_of, receivable
from aipc._sys.signals.signalfd import SignalInfo
from aipc.abc import Closing
from aipc.exceptions import ForkedError, LimitExceeded, UnsupportedOperation

from ._texts.shown import Fact, shown

_INT = range(-(1 << 31), 1 << 31)


class SignalReceiver(Closing):
    """Iterates over the signals that came since it was opened. Several tasks may iterate; each signal goes to one of them.

    Cancelled: nothing was taken. ClosedResourceError after `aclose`, also in waiting tasks; ForkedError in a forked child.
    """

    __slots__ = ("_closed", "signals")

    def __init__(self, signals: frozenset[int]) -> None:
        self.signals: frozenset[int] = signals
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> SignalInfo:
        """Return the next signal."""

    @abstractmethod
    def _leave(self) -> None: ...

    @property
    @abstractmethod
    def shared(self) -> bool:
        """Whether other receivers of the same kind on this loop get some of these signals, too."""

    async def aclose(self) -> None:
        """Stop receiving, and restore the state before. Signals that were not taken are dropped. Idempotent, also under cancellation."""
        if not self._closed:
            self._closed = True
            self._leave()

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(f"{self!r}: closed")

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield " ".join(map(name_of, sorted(self.signals)))
        yield "closed" if self._closed else "open"


@asynccontextmanager
async def open_signal_receiver(*signals: int, details: bool = False) -> AsyncIterator[SignalReceiver]:
    """Receive signals: `async with aipc.open_signal_receiver(signal.SIGHUP) as received`, then `async for info in received`.

    By default the loop's own signal handling is used, in the main thread; it knows the number only. `details=True` blocks the signals
    in this thread and reads a signalfd, which knows sender and value, and keeps all real-time signals in order; every other thread
    of the process must then block them, too. Several receivers of one signal each get it. On exit, handlers and masks are restored
    to the state before the first receiver; signals that came and were not taken are dropped.

    ValueError for no signals, or for an invalid number. UnsupportedOperation for SIGKILL and SIGSTOP, a wrong thread, another
    thread that does not block them, and SIGCHLD on uvloop without `details`. Cancelled while it opens: nothing was changed.
    """
    chosen = receivable(signals)
    if details:
        await loop_signals.check_other_threads(chosen)
    receiver = _DetailedReceiver(chosen) if details else _PlainReceiver(chosen)
    try:
        yield receiver
    finally:
        await receiver.aclose()


class _Source:
    """One signal of one loop, for all its receivers."""

    def __init__(self) -> None:
        self.receivers: list[_PlainReceiver] = []
        self.stop: Callable[[], None] = lambda: None

    def fired(self, signum: int) -> None:
        for receiver in self.receivers:
            receiver.came(signum)


_sources: dict[tuple[object, int], _Source] = {}


class _PlainReceiver(SignalReceiver):
    """Receives by the loop's own signal handling."""

    __slots__ = ("_generation", "_loop", "_pending", "_queue")

    def __init__(self, chosen: frozenset[int]) -> None:
        super().__init__(chosen)
        if threading.current_thread() is not threading.main_thread():
            raise UnsupportedOperation(
                f"{name_of(min(chosen))}: Python handles signals in the main thread only: open the receiver there, or with details=True"
            )
        self._generation = fork.generation
        self._loop = backend.current()
        self._pending: dict[int, None] = {}
        self._queue = WaitQueue()
        self.signals = frozenset()
        try:
            for signum in sorted(chosen):
                self._join(signum)
        except BaseException:
            self._leave()
            raise

    def _join(self, signum: int) -> None:
        source = _sources.get((self._loop, signum))
        if source is None:
            source = _Source()
            source.stop = loop_signals.watch(signum, source.fired)
            _sources[self._loop, signum] = source
        source.receivers.append(self)
        self.signals |= {signum}

    def _leave(self) -> None:
        if self._generation == fork.generation:
            for signum in self.signals:
                source = _sources[self._loop, signum]
                source.receivers.remove(self)
                if not source.receivers:
                    del _sources[self._loop, signum]
                    source.stop()
        self._queue.wake_all()

    @property
    def shared(self) -> bool:
        return any(len(_sources[self._loop, signum].receivers) > 1 for signum in self.signals if not self._closed)

    def came(self, signum: int) -> None:
        """Note that the loop saw the signal."""
        self._pending[signum] = None
        self._queue.wake_all()

    async def __anext__(self) -> SignalInfo:
        while True:
            if self._generation != fork.generation:
                raise ForkedError(f"{self!r}: opened before fork(2); open it anew in the child")
            self._check_open()
            if self._pending:
                signum = next(iter(self._pending))
                del self._pending[signum]
                return SignalInfo(signum)
            await self._queue.queue()


class _Signalfd(FileHandle):
    """One thread's descriptor for the signals of all its detailed receivers. The receiver that reads a signal passes it to the others."""

    __slots__ = ("receivers",)

    def __init__(self, chosen: frozenset[int]) -> None:
        super().__init__(signalfd.create(chosen), "signals", spins=False)  # a spin would not see what other receivers pass on
        self.receivers: list[_DetailedReceiver] = []

    def watch(self) -> None:
        """Set the signals of all receivers."""
        signalfd.create(frozenset[int]().union(*(receiver.signals for receiver in self.receivers)), self.fd)

    def hand_out(self) -> None:
        """Take one signal from the kernel and pass it on; BlockingIOError if there is none."""
        info = signalfd.parse(os.read(self.fd, signalfd.RECORD))
        for receiver in self.receivers:
            if info.signum in receiver.signals:
                receiver.came(info)
        if len(self.receivers) > 1:
            self.readable.wake_all()


_signalfds: dict[int, _Signalfd] = {}


class _DetailedReceiver(SignalReceiver):
    """Receives from a signalfd."""

    __slots__ = ("_source", "_taken", "_thread")

    def __init__(self, chosen: frozenset[int]) -> None:
        super().__init__(chosen)
        self._thread = threading.get_ident()
        self._taken: deque[SignalInfo] = deque()
        source = _signalfds.get(self._thread)
        if source is None or source.forked:
            source = _signalfds[self._thread] = _Signalfd(chosen)
        self._source = source
        signal_mask.block(chosen)
        source.receivers.append(self)
        source.watch()

    def _leave(self) -> None:
        source = self._source
        if source.forked:
            return
        source.receivers.remove(self)
        if source.receivers:
            source.watch()
            source.readable.wake_all()
        else:
            del _signalfds[self._thread]
            source.close()
        signal_mask.unblock(self.signals, discard=True)

    @property
    def shared(self) -> bool:
        return any(other.signals & self.signals for other in self._source.receivers if other is not self)

    def came(self, info: SignalInfo) -> None:
        """Keep a signal. A standard signal that waits already is the same one, as in the kernel."""
        if info.signum in REALTIME or all(info.signum != other.signum for other in self._taken):
            self._taken.append(info)

    def _take(self) -> SignalInfo:
        self._check_open()
        while not self._taken:
            self._source.hand_out()
        return self._taken.popleft()

    async def __anext__(self) -> SignalInfo:
        return await self._source.readable.attempt(self._take)


def send_signal(pid: int, signum: int, value: int | None = None, *, group: bool = False, pidfd: int | None = None) -> None:
    """Send a signal to a process by `kill(2)`, or, with a `value` (a C int), by `sigqueue(3)`. Signal 0 only checks that it exists.

    `group`, or a negative pid: send it to a process group. `pidfd` names the process instead of `pid`, which another process may
    have by now (`os.pidfd_open`). ObjectMissing (ProcessMissing) if there is no such process, AccessDenied, LimitExceeded if the
    receiver's user has RLIMIT_SIGPENDING signals queued; ValueError for an invalid signal, pid or C int. A value goes to one
    process only: UnsupportedOperation for a group. A plain call.
    """
    _check(pid, signum, value)
    where = f"{name_of(signum) if signum else 'signal 0'} to {'group' if group or pid < 0 else 'process'} {abs(pid)}"
    if pid < 0:
        pid, group = -pid, True
    if group and (value is not None or pidfd is not None):
        raise UnsupportedOperation(f"{where}: the kernel takes neither a value nor a pidfd for a process group")
    try:
        if group:
            os.killpg(pid, signum)
        elif pidfd is not None:
            _send_to_pidfd(pidfd, signum, value)
        elif value is None:
            os.kill(pid, signum)
        else:
            _send_value(pid, signum, value)
    except BlockingIOError:
        raise LimitExceeded(f"{where}: the receiver's user has as many signals queued as RLIMIT_SIGPENDING allows") from None
    except OSError as error:
        raise os_error(error.errno or 0, where) from None


def _check(pid: int, signum: int, value: int | None) -> None:
    if pid in (0, -1) or pid not in _INT:
        raise ValueError(f"pid={pid}: must be a process, or minus a process group; for this process's own group os.getpgrp()")
    if signum and signum not in VALID:
        raise ValueError(
            f"{signum}: no such signal; there are 1 to 31, {REALTIME[0]} to {REALTIME[-1]}, and 0 to check the process only"
        )
    if value is not None and value not in _INT:
        raise ValueError(f"value={value}: must be a C int, {_INT[0]:,} to {_INT[-1]:,}")


def _send_value(pid: int, signum: int, value: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signalfd.queue(pidfd, signum, value)
    finally:
        os.close(pidfd)


def _send_to_pidfd(pidfd: int, signum: int, value: int | None) -> None:
    if value is None:
        signal.pidfd_send_signal(pidfd, signum)
    else:
        signalfd.queue(pidfd, signum, value)
