"""One writer's latest value, for any number of readers: they never block the writer, and never see half a value."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from aipc._io.errors import os_error
from aipc._io.handle import Handle
from aipc._io.polling import Polling
from aipc._sys.proc.file_locks import holders
from aipc._texts.shown import Fact, counted, parked, shown, state
from aipc.abc import Buffer, stays_here
from aipc.exceptions import UnsupportedOperation
from aipc.wire import snapshot as wire
from aipc.wire.framing import as_bytes

from .base import checked_size
from .posix import SharedMemory, checked_name


class _SnapshotHandle(Handle):
    """Owns the segment and the views of it."""

    __slots__ = ("layout", "polling", "seen", "segment", "writes")

    def __init__(self, segment: SharedMemory, writes: bool) -> None:
        super().__init__(segment.name)
        self.layout: wire.Layout = wire.Layout(segment.buf, segment.name)
        self.segment: SharedMemory = segment
        self.writes: bool = writes
        self.seen: int = 0
        self.polling: Polling = Polling(self, self.changed, f"file {os.fstat(segment.fd).st_dev}:{os.fstat(segment.fd).st_ino}")

    def changed(self) -> bool:
        """Whether there is a value that this object has not returned."""
        return self.layout.latest != self.seen

    def _close(self) -> None:
        self.polling.close()
        self.layout.release()
        if self.writes:
            fcntl.flock(self.segment.fd, fcntl.LOCK_UN)  # otherwise a forked child would keep it locked
        self.segment.close()

    def checked(self) -> wire.Layout:
        """Check, for a plain call, that this object can be used; otherwise ClosedResourceError or ForkedError."""
        return self.call(lambda: self.layout)


class Snapshot:
    """The latest value of one writer, in POSIX shared memory: `with aipc.Snapshot.open("/prices") as prices`.

    `create` makes the writer; `open` makes a reader, or a writer that continues for a dead one. Values that nobody read are
    overwritten: to see each one, use a channel. If the writer is killed at any moment, the last whole value stays. Errors of every
    method: ClosedResourceError after `close`, ForkedError in a forked child.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: _SnapshotHandle) -> None:
        self._handle = handle

    @classmethod
    def create(cls, name: str, max_size: int, *, mode: int = 0o600, unlink: bool = False) -> Self:
        """Make a snapshot for values of up to `max_size` bytes, and become its writer. ObjectExists if the name is taken.

        It needs three times `max_size` of memory; NoSpace if there is not enough. It has exactly `mode`, whatever the umask:
        reading needs read permission only. `unlink` removes it on close.
        """
        name = checked_name(name)
        capacity = checked_size(name, max_size)

        def prepare(fd: int) -> None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(fd, wire.header(capacity), 0)

        segment = SharedMemory._created(name, wire.size(capacity), mode=mode, unlink=unlink, prepare=prepare)
        return cls(_SnapshotHandle(segment, writes=True))

    @classmethod
    def open(cls, name: str, write: bool = False) -> Self:
        """Open a snapshot to read it. ObjectMissing if there is none, WrongObject if the name belongs to something else.

        With `write`, become its writer, after the old one has closed it or died; ObjectExists, with its pid, while it lives.
        """
        segment = SharedMemory.open(name, read_only=not write)
        try:
            if write:
                _be_writer(segment)
            return cls(_SnapshotHandle(segment, write))
        except BaseException:
            segment.close()
            raise

    def publish(self, data: Buffer) -> None:
        """Make `data` the latest value; never waits. MessageTooLarge over `max_size`; UnsupportedOperation for a reader."""
        layout = self._handle.checked()
        if not self._handle.writes:
            raise UnsupportedOperation(f"{self._handle.name}: opened to read; its writer is open(name, write=True)")
        layout.publish(as_bytes(data))
        self._handle.polling.notify()

    def latest(self) -> bytes | None:
        """Return the latest value, whole; None before the first. ProtocolError if another process wrote into the memory."""
        self._handle.checked()
        return self._read()

    async def changed(self) -> bytes:
        """Wait for a value that this object has not returned yet, and return the latest; the first call takes any value.

        A writer of this user wakes it. Another user's change is seen after 50 µs to 10 ms, or 100 ms once a wait has lasted
        1.1 s. Cancelled: nothing was returned.
        """
        return await self._handle.polling.attempt(self._take)

    def _take(self) -> bytes:
        self._handle.check()
        value = self._read() if self._handle.changed() else None
        if value is None:
            raise BlockingIOError
        return value

    def _read(self) -> bytes | None:
        found = self._handle.layout.read()
        if found is None:
            return None
        self._handle.seen, value = found
        return value

    @property
    def max_size(self) -> int:
        """The longest value that fits, in bytes."""
        return self._handle.checked().capacity

    @property
    def number(self) -> int:
        """The number of values published so far; 0 before the first."""
        return self._handle.checked().latest

    def writer(self) -> int | None:
        """The writer's pid; None if there is no writer, or it lives in another PID namespace (proc_locks(5))."""
        self._handle.checked()
        return _writer(self._handle.segment)

    def unlink(self) -> None:
        """Remove its name; processes that have it open may continue. Also after `close`. ObjectMissing if the name is gone."""
        self._handle.segment.unlink()

    def close(self) -> None:
        """Close it; readers keep the value. Idempotent. Tasks in `changed` get ClosedResourceError."""
        self._handle.close()

    def __getstate__(self) -> object:
        stays_here(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._handle.name
        yield state(self._handle)
        yield "its writer" if self._handle.writes else "a reader"
        yield lambda: counted(self.number, "value") + " so far" if self.number else "no value yet"
        yield parked(self._handle.polling, "for a new value")


def _be_writer(segment: SharedMemory) -> None:
    try:
        fcntl.flock(segment.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        who = _writer(segment)
        raise os_error(
            errno.EEXIST, segment.name, f"process {who or 'of another namespace'} is its writer; there can be only one"
        ) from error


def _writer(segment: SharedMemory) -> int | None:
    pid = next(iter(holders(segment.fd, b"FLOCK")), 0)
    return pid if pid > 0 else None
